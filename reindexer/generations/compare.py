"""Compare two generations of a source by what searches find in them. Both are searched as they are, and exactly: what
differs only in the first comparison is the approximation of the index (HNSW), not the model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reindexer.core.errors import UsageError
from reindexer.core.ranking import MOST, mean, overlap, percentile, recall, reciprocal_rank
from reindexer.core.search_terms import SearchTerms
from reindexer.core.source import Source
from reindexer.core.text.batching import pack
from reindexer.core.text.opening import opening
from reindexer.core.text.tokens import estimate_tokens
from reindexer.generations.lifecycle import State
from reindexer.generations.rows import Generation, generations
from reindexer.monitoring.buffer import labels_text
from reindexer.monitoring.metrics import SOURCE_TOKENS
from reindexer.monitoring.metrics_store import read
from reindexer.ports import Collection, Embedder, Hit, Index, Vector
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.embedder_record import require_comparable
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source

SEED = "reindexer compare"
"""Draws the same rows of the same table each time."""
CHANGED = 20
"""The queries that are told one by one."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and the ids of the items that it should find. Without ids: it was drawn from a row."""

    text: str
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two generations that are compared."""

    source: Source
    """As the generation defines it."""
    state: State
    collection: Collection
    embedder: Embedder
    """Of queries."""

    @property
    def asked_as(self) -> object:
        """What the vector of a query depends on, beside its text."""
        return self.embedder.fingerprint, self.source.profile.asking("query")  # guard compare-own-query-side


@dataclass(frozen=True, slots=True)
class Found:
    """What one query finds in one generation."""

    hits: Sequence[Hit]
    exact: Sequence[Hit]
    took_ms: float

    @property
    def ids(self) -> list[str]:
        """The items as searches find them, best first."""
        return [hit.item_id for hit in self.hits]

    @property
    def exact_ids(self) -> list[str]:
        """The items that are nearest, whatever the index finds."""
        return [hit.item_id for hit in self.exact]


@dataclass(frozen=True, slots=True)
class Compared:
    """One query, and what it finds in both generations."""

    query: Query
    one: Found
    other: Found

    @property
    def overlap(self) -> float:
        """The share of items that both find."""
        return overlap(self.one.ids, self.other.ids)

    @property
    def overlap_exact(self) -> float:
        """The same of exact searches."""
        return overlap(self.one.exact_ids, self.other.exact_ids)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the searches of one generation are like."""

    overlap_with_exact: float
    """The share of the nearest items that its index finds."""
    p50_ms: float
    p99_ms: float
    recall: float | None
    """None: no query says what it should find."""
    mrr: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two generations beside each other."""

    queries: Sequence[Compared] = field(repr=False)

    @property
    def overlap(self) -> float:
        """The mean share of the first ten items that both generations find."""
        return mean([each.overlap for each in self.queries])

    @property
    def overlap_exact(self) -> float:
        """The same of exact searches: without the approximation of the indexes."""
        return mean([each.overlap_exact for each in self.queries])

    def figures(self, found: Sequence[Found]) -> Figures:
        """Return the figures of one side: `ones` or `others`."""
        golden = [(each.ids, asked.query.expected) for each, asked in zip(found, self.queries, strict=True)]
        golden = [(ids, expected) for ids, expected in golden if expected]
        times_ms = [each.took_ms for each in found]
        return Figures(
            mean([overlap(each.ids, each.exact_ids) for each in found]),
            percentile(times_ms, 0.5),
            percentile(times_ms, 0.99),
            mean([recall(ids, expected) for ids, expected in golden]) if golden else None,
            mean([reciprocal_rank(ids[:MOST], expected) for ids, expected in golden]) if golden else None,
        )

    @property
    def ones(self) -> list[Found]:
        """What the first generation finds."""
        return [each.one for each in self.queries]

    @property
    def others(self) -> list[Found]:
        """What the second generation finds."""
        return [each.other for each in self.queries]

    @property
    def changed(self) -> list[Compared]:
        """The queries whose results differ, those that differ most first."""
        differing = [each for each in self.queries if each.one.ids[:MOST] != each.other.ids[:MOST]]
        return sorted(differing, key=lambda each: (each.overlap, each.overlap_exact))[:CHANGED]


def both(connection: Connection, source: str, named: int | None = None) -> tuple[Generation, Generation]:
    """Return the active generation and the one that it is compared with: the named one, else the next, else the former.

    Raises UsageError if there is no such source, or no such generation.
    """
    kept = {each.number: each for each in generations(connection, source) if each.is_kept}
    active = next(each for each in kept.values() if each.state == "active")
    if named is not None:
        if named not in kept:
            told = ", ".join(f"{each.number} ({each.state})" for each in kept.values())
            raise UsageError(f"there is no generation {named} of {source!r} to compare with; there are {told}")
        return active, kept[named]
    for state in ("ready", "filling", "standby"):
        for other in sorted(kept.values(), key=lambda each: -each.number):
            if other.state == state:
                return active, other
    raise UsageError(
        f"{source!r} has one generation, and nothing to compare it with; fill the next: reindexer rebuild {source}"
    )


def drawn(connection: Connection, source: Source, most: int) -> list[Query]:
    """Draw queries from rows that are indexed: their first sentences. The same ones each time.

    Raises UsageError if nothing is indexed.
    """
    named = {"source": source.name, "generation": source.generation, "seed": SEED, "limit": most}
    ids = [item_id for (item_id,) in connection.execute(load("generations.sql")["drawn"], named).fetchall()]
    rows = find_rows(connection, source, ids).rows
    texts = [opening(rows[item_id].text) for item_id in ids if item_id in rows]
    queries = [Query(text) for text in dict.fromkeys(filter(None, texts))]
    if not queries:
        raise UsageError(f"nothing of {source.name!r} is indexed, so there is no text to search for")
    return queries


def points_of(connection: Connection, source: Source) -> int:
    """Return how many points a generation has, as the ledger knows."""
    named = {"source": source.name, "generation": source.generation}
    row = connection.execute(load("generations.sql")["points"], named).fetchone()
    return int(row[0]) if row else 0


def tokens_counted(connection: Connection, source: Source) -> int:
    """Return the tokens that the provider counted for the source and its generation's embedder. 0: it counts none."""
    labels = labels_text(source=source.name, embedder=source.made_by or "")
    return round(read(connection).get((SOURCE_TOKENS, labels), 0))


def find_side(connection: Connection, source: str, generation: Generation) -> Source:
    """Return the source as a generation defines it."""
    return find_source(connection, source, generation.number)


def compare(index: Index, one: Side, other: Side, queries: Sequence[Query], *, timeout_s: float) -> Comparison:
    """Search both generations for all queries, in turns, after one search of each that does not count.

    `timeout_s` is the embedders'. Raises as `reindexer.index.search.search` does.
    """
    texts = [query.text for query in queries]
    vectors = dict[object, list[Vector]]()
    for side in (one, other):
        require_comparable(index, side.collection, side.embedder)
        if side.asked_as not in vectors:
            vectors[side.asked_as] = list(_embedded(side.embedder, texts, timeout_s))
    ours, theirs = vectors[one.asked_as], vectors[other.asked_as]  # guard compare-own-model
    for side, first in ((one, ours[0]), (other, theirs[0])):
        index.search(side.collection, first, SearchTerms(MOST))
    return Comparison(
        [
            Compared(query, _found(index, one, mine), _found(index, other, its))
            for query, mine, its in zip(queries, ours, theirs, strict=True)
        ]
    )


def _found(index: Index, side: Side, vector: Vector) -> Found:
    began = time.perf_counter()
    hits = index.search(side.collection, vector, SearchTerms(MOST))
    took_ms = 1000 * (time.perf_counter() - began)
    return Found(hits, index.search(side.collection, vector, SearchTerms(MOST), exact=True), took_ms)


def _embedded(embedder: Embedder, texts: Sequence[str], timeout_s: float) -> Iterator[Vector]:
    """The vectors of all texts, in as few requests as the embedder's limits allow."""
    for some in pack([estimate_tokens(text) for text in texts], embedder.limits):
        yield from embedder.embed([texts[each] for each in some], timeout_s=timeout_s).vectors
