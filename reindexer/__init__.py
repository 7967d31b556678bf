"""Keeps the text of Postgres tables searchable as vectors in Qdrant. Start reading at `reindexer.flow`."""

__version__ = "0.1.0"
