"""Estimate: how many tokens a source's rows have, before anyone pays for them.

Small tables are read as a whole. Large ones are sampled block by block, which takes seconds whatever their size. Tokens
are counted by the caller's function, or estimated as for packing requests, which is rarely too low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from psycopg import sql

from reindexer.core.errors import ChunkerFailed
from reindexer.core.source import Source
from reindexer.core.text.embedding_spec import EmbeddingSpec, item_fingerprint
from reindexer.core.text.tokens import estimate_tokens
from reindexer.postgres.connect import Connection
from reindexer.postgres.names import Name
from reindexer.postgres.queries import load
from reindexer.postgres.triggers import key_expression
from reindexer.sources import condition
from reindexer.sources.chunk_sizes import chunk_tokens
from reindexer.sources.key_pages import key_page
from reindexer.sources.rows import find_rows

SAMPLE = 10_000
"""Tables up to this many rows are read as a whole."""
PAGE = 256
READ_S = 60.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of embedding all rows (an initial scan, `backfill --force`), and of those that changed (`backfill`)."""

    rows: int
    is_estimate: bool
    """The figures are extrapolated from a sample."""
    sampled: int
    with_text: int
    tokens: int
    changed: int
    """Rows with text whose current text is not indexed."""
    changed_tokens: int
    unreadable: int = 0
    """Rows that can't be read, and will end as FAILED. Not counted in the other figures."""


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    with_text: int = 0
    tokens: int = 0
    changed: int = 0
    changed_tokens: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Pages of ids: of all items, or of some."""

    rows: int
    is_whole: bool
    pages: Iterator[Sequence[str]]

    def scale(self, read: int) -> float:
        """Return by how much sums over the `read` items are to be multiplied."""
        return 1.0 if self.is_whole or not read else self.rows / read


def sample_of(connection: Connection, source: Source, sample: int = SAMPLE) -> Sample:
    """Return all of a small table, or a sample of a large one. Raises SourceError if the table can't be read."""
    rows, rows_guessed = condition.count(connection, source, None)
    whole = rows <= sample and not rows_guessed
    pages = _all_pages(connection, source) if whole else _sample_pages(connection, source, sample, rows)
    return Sample(rows, whole, pages)


def estimate(
    connection: Connection,
    source: Source,
    spec: EmbeddingSpec,
    count: Callable[[str], int] = estimate_tokens,
    *,
    sample: int = SAMPLE,
) -> Estimate:
    """Count rows, and tokens by `count`. Raises SourceError if the table can't be read."""
    sampled = sample_of(connection, source, sample)
    sums = _Sums()
    for item_ids in sampled.pages:
        _add(connection, source, spec, count, item_ids, sums)
    scale = sampled.scale(sums.rows)
    return Estimate(
        rows=sums.rows if sampled.is_whole else sampled.rows,
        is_estimate=not sampled.is_whole,
        sampled=sums.rows,
        with_text=round(sums.with_text * scale),
        tokens=round(sums.tokens * scale),
        changed=round(sums.changed * scale),
        changed_tokens=round(sums.changed_tokens * scale),
        unreadable=round(sums.unreadable * scale),
    )


def _add(
    connection: Connection,
    source: Source,
    spec: EmbeddingSpec,
    count: Callable[[str], int],
    item_ids: Sequence[str],
    sums: _Sums,
) -> None:
    parameters = {"source": source.name, "item_ids": list(item_ids)}
    most = chunk_tokens(connection, source, item_ids)
    indexed: dict[str, str] = dict(connection.execute(load("estimate.sql")["indexed"], parameters).fetchall())
    found = find_rows(connection, source, item_ids)
    sums.unreadable += len(found.unreadable)
    for item_id, row in found.rows.items():
        text = row.text
        try:
            chunks = spec.within(most.get(item_id)).chunks(text, row.columns)
        except ChunkerFailed:
            sums.unreadable += 1
            continue
        sums.rows += 1
        if not chunks:
            continue
        # What chunks share with their neighbours, or begin with, is embedded with each of them.
        tokens = sum(count(each.input(text)) for each in chunks)  # guard estimate-chunk-overlap
        sums.with_text += 1
        sums.tokens += tokens
        if indexed.get(item_id) != item_fingerprint(chunks):
            sums.changed += 1
            sums.changed_tokens += tokens


def _all_pages(connection: Connection, source: Source) -> Iterator[Sequence[str]]:
    after: str | None = None
    while True:
        page = key_page(connection, source, after, PAGE, timeout_s=READ_S)
        yield page.item_ids
        if page.last is None:
            return
        after = page.last


def _sample_pages(connection: Connection, source: Source, sample: int, rows: int) -> Iterator[Sequence[str]]:
    """Yield ids of about `sample` rows from whole blocks picked at random, or of the first blocks if there are none."""
    query = sql.SQL("SELECT {key} FROM {table} AS t TABLESAMPLE SYSTEM (%(percent)s) LIMIT %(most)s").format(
        key=key_expression(source, "t", Name), table=Name(source.table_schema, source.table_name)
    )
    with condition.reading(connection, source, None, READ_S):
        found = None
        for percent in (min(100.0, 100.0 * sample / max(rows, 1)), 100.0):
            found = connection.execute(query, {"percent": percent, "most": 2 * sample}).fetchall()
            if found:
                break
    item_ids = iter([str(item_id) for (item_id,) in found or []])
    while page := list(islice(item_ids, PAGE)):
        yield page
