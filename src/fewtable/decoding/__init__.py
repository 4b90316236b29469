"""fewtable decoding."""
