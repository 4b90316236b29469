"""Teachers: what annotates raw passages, an endpoint or a local pipeline; journal, repairs and filters."""
