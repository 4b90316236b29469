"""fewtable formats."""
