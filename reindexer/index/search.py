"""Search: the items of a source that are nearest to a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reindexer.core.filters import Filter
from reindexer.core.payload import PayloadColumn
from reindexer.core.source import Source
from reindexer.ports import Collection, Embedder, EmbedderOf, Hit, Index
from reindexer.postgres.connect import Connection
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.postgres.queries import load
from reindexer.sources.embedder_record import made_by, require_comparable
from reindexer.sources.store import find_source, problems
from reindexer.sources.trigger_check import inspect


@dataclass(frozen=True, slots=True)
class Searchable:
    """What a search of a source needs to know from Postgres. The connection is not held while the query is embedded."""

    source: Source
    collection: Collection
    columns: Sequence[PayloadColumn]
    """What a filter may name."""
    behind: str | None
    """Why recent writes may be missing, in one line."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The items that were found, best first."""

    hits: Sequence[Hit]
    behind: str | None = None
    """Why recent writes may be missing, in one line. None: edits are indexed as they should be."""


def searchable(connection: Connection, name: str) -> Searchable:
    """Return what a search of this source needs to know. Raises UsageError if there is no such source."""
    source = find_source(connection, name)
    columns = payload_columns(connection, source)
    return Searchable(source, collection_of(connection, source), columns, what_is_behind(connection, source))


def collection_of(connection: Connection, source: Source) -> Collection:
    """Return the collection of the source's generation, with its alias."""
    return Collection(
        source.name, source.collection, source.alias, source.profile, made_by(connection, source), source.generation,
        keywords=source.keywords,
    )  # fmt: skip


def collections_of(connection: Connection, source: Source) -> list[Collection]:
    """Return the collections of all generations of the source that are not known to be gone. The active one is last."""
    active = collection_of(connection, source)
    rows = connection.execute(load("generations.sql")["not_removed"], {"source": source.name}).fetchall()
    others = [number for (number,) in rows if number != source.generation]
    named = [replace(source, generation=number).collection for number in others]
    return [*(replace(active, name=name, is_active=False) for name in named), active]


def what_is_behind(connection: Connection, source: Source) -> str | None:
    """Why a search may miss recent writes, in one line. None where edits are indexed as they should be."""
    if problem := inspect(connection, source).problem or problems(connection).get(source.name):
        return f"what was written of late may be missing: {problem}"
    row = connection.execute(load("backfills.sql")["first_fill_is_open"], {"source": source.name}).fetchone()
    return f"a fill of {source.name!r} is not through yet: see `reindexer status`" if row and row[0] else None


def search_source(
    resolve: Callable[[], Searchable],
    embedder_of: EmbedderOf,
    index: Index,
    query: str,
    limit: int,
    filter_of: Callable[[Sequence[PayloadColumn]], Filter],
    *,
    timeout_s: float,
) -> SearchResult:
    """Search a source by the generation that searches use. `resolve` asks Postgres which one that is.

    If nothing was found and another generation is active by then, it searches once more: the former one may have been
    dropped meanwhile. Raises as `search` does, and what `resolve` and `filter_of` raise.
    """
    there = resolve()
    while True:
        where = filter_of(there.columns)
        embedder = embedder_of(there.source)
        hits = search(embedder, index, there.collection, query, limit, where, timeout_s=timeout_s)
        # guard search-dropped-generation
        if hits or (now := resolve()).collection.name == there.collection.name:
            return SearchResult(hits, there.behind)
        there = now


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
