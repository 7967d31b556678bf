"""Search: the items of a source that are nearest to a text."""

from __future__ import annotations

from collections.abc import Sequence

from reindexer.core.filters import Filter
from reindexer.core.source import Source
from reindexer.ports import Collection, Embedder, Hit, Index
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.embedder_record import require_comparable
from reindexer.sources.store import problems
from reindexer.sources.trigger_check import inspect


def collection_of(connection: Connection, source: Source) -> Collection:
    """Return the collection of the source's active generation, with its alias."""
    row = connection.execute(load("sources.sql")["active"], {"name": source.name}).fetchone()
    generation, embedder = row or (1, None)
    return Collection(source.name, source.collection(generation), source.alias, source.profile, embedder)


def what_is_behind(connection: Connection, source: Source) -> str | None:
    """Why a search may miss recent writes, in one line. None where edits are indexed as they should be."""
    if problem := inspect(connection, source).problem or problems(connection).get(source.name):
        return f"what was written of late may be missing: {problem}"
    row = connection.execute(load("backfills.sql")["first_fill_is_open"], {"source": source.name}).fetchone()
    return f"a fill of {source.name!r} is not through yet: see `reindexer status`" if row and row[0] else None


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
    """Return at most `limit` items that pass the filter, best first. Empty while nothing of the source is indexed.

    `timeout_s` is the embedder's. Raises TransientError (DependencyUnavailable, RateLimited) or PermanentError, as
    embedder and index do, and OtherEmbedder if the points are made by another embedder.
    """
    require_comparable(index, collection, embedder)  # guard search-same-embedder
    embedding = embedder.embed([query], timeout_s=timeout_s)
    return index.search(collection, embedding.vectors[0], limit, where)
