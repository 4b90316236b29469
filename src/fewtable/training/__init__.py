"""fewtable training."""
