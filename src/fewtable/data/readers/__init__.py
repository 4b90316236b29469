"""fewtable data/readers."""
