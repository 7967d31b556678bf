"""The HTTP API: shells that translate requests into calls of `reindexer.flow`, and outcomes into JSON."""
