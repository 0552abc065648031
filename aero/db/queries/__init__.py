"""Named queries. They run in the caller's transaction and never commit."""
