"""Search: the items of a source that are nearest to a text."""

from __future__ import annotations

from collections.abc import Sequence

from reindexer.core.filters import Filter
from reindexer.core.source import Source
from reindexer.ports import Collection, Embedder, Hit, Index
from reindexer.postgres.connect import Connection


def collection_of(connection: Connection, source: Source) -> Collection:
    """Where the source's points lie: the collection of its active generation, behind its alias."""
    row = connection.execute("SELECT generation FROM reindexer.source WHERE name = %s", [source.name]).fetchone()
    return Collection(source.name, source.collection(row[0] if row else 1), source.alias, source.profile)


def search(
    embedder: Embedder,
    index: Index,
    collection: Collection,
    query: str,
    limit: int,
    where: Filter = (),
    *,
    timeout_s: float,
) -> Sequence[Hit]:
    """At most `limit` items that the filter lets through, best first; none while nothing of the source is indexed.

    `timeout_s` is the embedder's. Raises PassingError (DependencyAway, RateLimited) or LastingError, as embedder and
    index do.
    """
    embedding = embedder.embed([query], timeout_s=timeout_s)
    return index.search(collection, embedding.vectors[0], limit, where)
