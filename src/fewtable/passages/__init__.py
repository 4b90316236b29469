"""Raw text -> passages: read, cut at sentence ends, filtered, drawn by seed."""
