"""The HTTP API: shells that translate requests into calls of `reindexer`, and outcomes into JSON."""
