"""Chunk sizes of single items whose text a provider has refused for its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load


def chunk_tokens(connection: Connection, source: Source, item_ids: Sequence[str]) -> Mapping[str, int]:
    """Return the maximum tokens per chunk of those items for which the provider found a chunk too long."""
    parameters = {"source": source.name, "generation": source.generation, "item_ids": list(item_ids)}
    return dict(connection.execute(load("status.sql")["chunk_tokens"], parameters).fetchall())
