"""fewtable scoring."""
