"""Points in Qdrant: written, reused, searched, compared with the table."""
