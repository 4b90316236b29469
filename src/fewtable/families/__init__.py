"""fewtable families."""
