"""Points in the index: writing, reuse, search, and comparison with the table."""
