"""The HTTP API: translates requests into calls of `reindexer`, and results into JSON."""
