"""Points in Qdrant: writing, reuse, search, and comparison with the table."""
