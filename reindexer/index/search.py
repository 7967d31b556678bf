"""Search: what is nearest to a text in a source, or in several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from reindexer.core.errors import (
    KeywordsMissing,
    RefusesAll,
    SourceError,
    TransientError,
    UnfitRequest,
    UsageError,
)
from reindexer.core.filters import Filter
from reindexer.core.keywords import Keywords, numbers_of_query
from reindexer.core.payload import PayloadColumn
from reindexer.core.ranking import fused
from reindexer.core.search_terms import Mode, SearchTerms
from reindexer.core.source import Source
from reindexer.core.text.batching import RequestLimits
from reindexer.core.wait_status import WaitStatus
from reindexer.index.as_of import AsOf, Connecting
from reindexer.index.asked_once import asked_once
from reindexer.index.hit_texts import with_texts
from reindexer.ports import Collection, Embedder, EmbedderOf, Hit, Index, KeywordEncoderOf, Vector
from reindexer.postgres.connect import Connection
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.postgres.queries import load
from reindexer.sources.embedder_record import made_by, require_comparable
from reindexer.sources.store import find_source, problems
from reindexer.sources.trigger_check import inspect
from reindexer.tracing.process import spanned


@dataclass(frozen=True, slots=True)
class Searchable:
    """What a search of a source needs to know from Postgres. The connection is not held while the query is embedded."""

    source: Source
    collection: Collection
    columns: Sequence[PayloadColumn]
    """What a filter may name."""
    behind: str | None
    """Why recent writes may be missing, in one line."""
    hides_texts: bool = False
    """Hits show payload columns alone, and not the text of a chunk that may stand beside them."""
    as_of: datetime | None = None
    """As of `SearchResult`."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, best first."""

    hits: Sequence[Hit]
    behind: str | None = None
    """Why recent writes may be missing, in one line. None: edits are indexed as they should be."""
    degraded: Mode | None = None
    """By what alone the query was compared in a source that is searched by both: `keywords`, because it could not be
    embedded; `meaning`, because there are no keywords yet. None: as was asked."""
    after: WaitStatus | None = None
    """How the wait for a mark ended, before the search. None: nothing was to be waited for."""
    as_of: datetime | None = None
    """Each change that was committed before it counts in the result, but of items that failed. By Postgres's clock.
    None: not known, while a first fill is not through."""


@dataclass(frozen=True, slots=True)
class Searcher:
    """What a process searches with."""

    embedder_of: EmbedderOf
    index: Index
    encoder_of: KeywordEncoderOf
    timeout_s: float
    """The embedder's."""
    degrades: bool = True
    """Where meaning and keywords are to count, and one of them is not to be had, the other counts alone."""
    as_of: AsOf = field(default_factory=AsOf)


Resolve = Callable[[], Searchable]
"""Asks Postgres which generation of a source searches use now."""

FilterOf = Callable[[Sequence[PayloadColumn]], Filter]
"""Returns the filter over a source's payload columns. Raises UsageError if it does not fit them."""


def every_item(_: Sequence[PayloadColumn]) -> Filter:
    """The filter that each item passes."""
    return ()


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one source, by the generation that was asked."""

    there: Searchable
    hits: Sequence[Hit]
    degraded: Mode | None = None


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


def search_sources(
    by: Searcher,
    resolves: Sequence[Resolve],
    query: str,
    terms: SearchTerms,
    filter_of: FilterOf,
    *,
    forced_of: FilterOf = every_item,
    texts: Connecting | None = None,
) -> SearchResult:
    """Search one source or several. Hits of several are fused by rank, and their scores are 1 / (60 + rank).

    The filter has to fit each of them, and `terms` are those of the whole. `forced_of` returns the conditions of the
    caller's key, which stand beside those of the filter; it raises what it likes where they do not fit. `texts`: how to
    read the texts of the hits; None: they are not wanted. Raises as `search_source` does, UnfitRequest if the terms are
    out of range, and SourceError if texts can't be read.
    """
    terms.check(len(resolves))
    sources = [resolve() for resolve in resolves]
    for there in sources:  # before a provider is asked
        forced_of(there.columns)
        fitting_filter(there, filter_of)
        terms.mode_of(there.source)
    if len(resolves) == 1:
        found = search_source(by, sources[0], resolves[0], query, terms, filter_of, forced_of)
        return result(by, [(found, hit) for hit in found.hits], [found], texts)
    once, of_each = replace(by, embedder_of=asked_once(by.embedder_of)), replace(terms, limit=terms.depth, offset=0)
    founds = [
        search_source(once, there, resolve, query, of_each, filter_of, forced_of)
        for there, resolve in zip(sources, resolves, strict=True)
    ]
    ranked = fused([[(found, hit) for hit in found.hits] for found in founds])[terms.offset : terms.depth]
    return result(by, [(found, replace(hit, score=score)) for (found, hit), score in ranked], founds, texts)


def search_source(
    by: Searcher,
    there: Searchable,
    resolve: Resolve,
    query: str,
    terms: SearchTerms,
    filter_of: FilterOf,
    forced_of: FilterOf = every_item,
) -> Found:
    """Search a source by the generation that searches use: `there`, or by then another, as `resolve` says.

    Raises as `search` does, what `resolve` raises, and UnfitRequest if filter or mode do not fit.
    """
    degraded: Mode | None = None

    def ask(there: Searchable) -> Sequence[Hit]:
        nonlocal degraded
        forced = forced_of(there.columns)
        where = (*forced, *fitting_filter(there, filter_of))  # guard key-forced-filter
        by_filter = replace(terms, where=where, corpus=forced)
        mode, degraded = terms.mode_of(there.source), None
        encoder = by.encoder_of(there.source) if mode != "meaning" else None
        words = [encoder.query(query)] if encoder else []
        if mode == "keywords":
            return find(by.index, there.collection, None, words, by_filter)
        # A number names one thing. Its ranking lifts what holds it above all that is merely near in meaning.
        numbers = [encoder.query(numbers_of_query(query))] if encoder else []  # guard hybrid-numbers-first
        try:
            vector = vector_of(by.embedder_of(there.source), by.index, there.collection, query, by.timeout_s)
        except (TransientError, RefusesAll):
            if not by.degrades or not any(each.indices for each in words):
                raise
            degraded = "keywords"
            return find(by.index, there.collection, None, words, by_filter)
        try:
            return find(by.index, there.collection, vector, words + numbers, by_filter)
        except KeywordsMissing:  # guard search-before-keywords
            if not by.degrades:
                raise
            degraded = "meaning"
            return find(by.index, there.collection, vector, (), by_filter)

    there, hits = by_active_generation(there, resolve, ask)
    return Found(there, hits or (), degraded)


def by_active_generation(
    there: Searchable, resolve: Resolve, ask: Callable[[Searchable], Sequence[Hit] | None]
) -> tuple[Searchable, Sequence[Hit] | None]:
    """Return the hits of the generation that searches use, and which one that is.

    If nothing was found and another generation is active by then, it is asked once more: the former one may have been
    dropped meanwhile.
    """
    while True:
        hits = ask(there)
        # guard search-dropped-generation
        if hits or (now := resolve()).collection.name == there.collection.name:
            return there, hits
        there = now


def fitting_filter(there: Searchable, filter_of: FilterOf) -> Filter:
    """Return the filter over a source's columns. Raises UnfitRequest, with the source's name, if it does not fit."""
    try:
        return filter_of(there.columns)
    except UsageError as exc:
        raise UnfitRequest(f"source {there.source.name!r}: {exc}") from exc


def result(
    by: Searcher, hits: Sequence[tuple[Found, Hit]], founds: Sequence[Found], texts: Connecting | None
) -> SearchResult:
    """Return these hits, each with the name of its source and, if they are wanted, with the texts of the rows now."""
    told = [replace(hit, source=found.there.source.name, payload=_shown(found.there, hit)) for found, hit in hits]
    if texts is not None:
        for there in (found.there for found in founds):
            of_source = [place for place, hit in enumerate(told) if hit.source == there.source.name]
            if not of_source:
                continue
            most, some = max_input_tokens(by, there.source), [told[each] for each in of_source]
            with texts() as connection:
                read = with_texts(connection, by.index, there.source, there.collection, some, most)
            for place, hit in zip(of_source, read, strict=True):
                told[place] = hit
    behind = "; ".join(found.there.behind for found in founds if found.there.behind)
    degraded = next((found.degraded for found in founds if found.degraded), None)
    known = [found.there.as_of for found in founds]
    as_of = min((each for each in known if each is not None), default=None)
    return SearchResult(told, behind or None, degraded, as_of=None if None in known else as_of)


def _shown(there: Searchable, hit: Hit) -> Mapping[str, Any]:
    """The payload of a hit, as far as it is shown. While the key of texts changes, a point has it under the former."""
    if not there.hides_texts:
        return hit.payload
    shown = {*there.source.payload_columns, *(each.name for each in there.source.related)}
    return {key: value for key, value in hit.payload.items() if key in shown}  # guard open-search-stored-text


def max_input_tokens(by: Searcher, source: Source) -> int:
    """Of the embedder that made the source's vectors, as far as this process knows it."""
    try:
        return by.embedder_of(source).limits.max_input_tokens  # guard hit-text-header-cut
    except (SourceError, UsageError):
        return RequestLimits().max_input_tokens


def find(
    index: Index, collection: Collection, vector: Vector | None, keywords: Sequence[Keywords], terms: SearchTerms
) -> Sequence[Hit]:
    """Return what the index finds by these terms: by the vector, by keywords, or by all of them. A query that has no
    vector and no word finds nothing."""
    some = [each for each in keywords if each.indices]
    if vector is None and not some:
        return ()
    with spanned("search", **{"reindexer.source": collection.source}):
        if some:
            return index.search(collection, vector, terms, keywords=some)
        return index.search(collection, vector, terms)


def search(
    embedder: Embedder, index: Index, collection: Collection, query: str, terms: SearchTerms, *, timeout_s: float
) -> Sequence[Hit]:
    """Return what is nearest to a text in meaning, best first. Empty while nothing of the source is indexed.

    Raises as `vector_of` does, and as the index does.
    """
    return find(index, collection, vector_of(embedder, index, collection, query, timeout_s), (), terms)


def vector_of(embedder: Embedder, index: Index, collection: Collection, query: str, timeout_s: float) -> Vector:
    """Return a query's vector. `timeout_s` is the embedder's.

    Raises TransientError (DependencyUnavailable, RateLimited) or PermanentError, as embedder and index do, and
    OtherEmbedder if the points are made by another embedder.
    """
    require_comparable(index, collection, embedder)  # guard search-same-embedder
    with spanned("embed", **{"reindexer.source": collection.source}):
        return cast(Vector, embedder.embed([query], timeout_s=timeout_s).vectors[0])
