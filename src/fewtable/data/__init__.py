"""fewtable data."""
