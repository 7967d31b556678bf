"""The cost of a change: its rows are read and cut into chunks as a worker would, and nothing is embedded.

Chunks that the index holds already are not embedded again. Where that is not certain, it is the difference between the
two ends of a range.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reindexer.backfills.pager import MAX_BACKLOG, PAGE
from reindexer.backfills.runs import Run, recent
from reindexer.core.change_plan import Cost, Standby
from reindexer.core.errors import ChunkerFailed
from reindexer.core.items import Row
from reindexer.core.source import Source
from reindexer.core.storage import collection_size
from reindexer.core.text.embedding_spec import Chunk, EmbeddingSpec, item_fingerprint
from reindexer.core.text.tokens import estimate_tokens
from reindexer.core.token_range import (
    CountedBy,
    Measured,
    Range,
    Texts,
    counted_by,
    sampling_error,
    token_range,
)
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.chunk_sizes import chunk_tokens
from reindexer.sources.estimate import SAMPLE, sample_of
from reindexer.sources.rows import find_rows

LEDGER_ROW = 350.0
DUE_ROW = 400.0
"""Bytes of a row with its indexes, where there are too few to tell."""
LEARNED = 50
"""A run teaches how long a fill takes if so many items were done."""


@dataclass(frozen=True, slots=True)
class Maker:
    """What makes vectors: as far as it is known here."""

    spec: EmbeddingSpec
    dimensions: int | None
    count: Callable[[str], int] | None = None
    """The model's own tokenizer. None: there is none here."""
    price: float | None = None
    """Dollars per million tokens. None: not known."""
    at_openai: bool = False
    measured: Measured = field(default_factory=Measured)
    tokens_per_minute: float | None = None

    @property
    def counted_by(self) -> CountedBy:
        """How its tokens are counted."""
        return counted_by(tokenizer=self.count is not None, measured=self.measured, at_openai=self.at_openai)

    def tokens(self, least: Texts, most: Texts) -> Range:
        """The tokens of texts; see `token_range`."""
        return token_range(least, most, self.counted_by, self.measured)

    def dollars(self, tokens: Range) -> Range | None:
        """Their price. None: not known."""
        return None if self.price is None else tokens * (self.price / 1e6)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be embedded."""

    after: Source
    maker: Maker
    before: Source | None = None
    """The definition whose points are there now. None: the source is not attached."""
    before_spec: EmbeddingSpec | None = None
    """How these points were cut, where the same model makes the new ones. None: another one does."""
    anew: bool = False
    """Another collection is filled."""
    lost: bool = False
    """The points are lost."""
    takes: bool = False
    """The collection that is filled anew takes vectors from the one that is there."""
    elsewhere: bool = False
    """Another generation may hold vectors that are needed."""


@dataclass(slots=True)
class _Sums:
    read: int = 0
    unreadable: int = 0
    items_least: int = 0
    items_most: int = 0
    points: int = 0
    """All chunks of the items afterwards."""
    points_before: int = 0
    payload: int = 0
    least: Texts = field(default_factory=Texts)
    most: Texts = field(default_factory=Texts)
    every: Texts = field(default_factory=Texts)
    """All chunks, whether embedded or not."""
    of_items: list[int] = field(default_factory=list)
    """The estimated tokens of each item that may be embedded."""
    seen: set[str] = field(default_factory=set)


def cost_of(connection: Connection, change: Change, *, sample: int = SAMPLE) -> Cost:
    """Return what a change costs. Raises SourceError if the table can't be read."""
    sampled = sample_of(connection, change.after, sample)
    sums = _Sums()
    for item_ids in sampled.pages:
        _add(connection, change, item_ids, sums)
    scale = sampled.scale(sums.read + sums.unreadable)
    off = 0.0 if sampled.is_whole else sampling_error(sums.of_items)
    maker = change.maker
    tokens = maker.tokens(sums.least, sums.most).widened(off) * scale
    items = Range(round(sums.items_least * scale), round(sums.items_most * scale))
    rows = sampled.rows if not sampled.is_whole else sums.read + sums.unreadable
    grown = sums.points if change.anew or change.before is None or change.lost else sums.points - sums.points_before
    points = Range(math.floor(grown * scale * (1 - off)), math.ceil(grown * scale * (1 + off)))
    in_ledger = rows if change.anew or change.before is None else 0
    ledger_row, due_row = _row_sizes(connection, attached=change.before is not None)
    waiting = min(rows, MAX_BACKLOG + PAGE)
    return Cost(
        rows=rows,
        is_estimate=not sampled.is_whole,
        items=items,
        points=Range(round(sums.least.number * scale), round(sums.most.number * scale)),
        tokens=Range(math.floor(tokens.low), math.ceil(tokens.high)),
        counted_by=maker.counted_by,
        dollars=_rounded(maker.dollars(tokens)),
        minutes=_minutes(connection, change, items.high, tokens.high),
        disk=_size(points, maker, sums, change.after),
        ledger_rows=in_ledger,
        ledger_size=round(in_ledger * ledger_row),
        due_rows=waiting,
        due_size=round(waiting * due_row),
        unreadable=round(sums.unreadable * scale),
    )


def standby_of(
    connection: Connection, former: Source, maker: Maker, hours: float, takes: bool, *, sample: int = 1000
) -> Standby:
    """Return what it costs to keep a generation that searches use no more. `maker`: what makes its vectors; `takes`: it
    takes them from the active one."""
    sampled = sample_of(connection, former, sample)
    sums, change = _Sums(), Change(former, maker, anew=True)
    for item_ids in sampled.pages:
        _add(connection, change, item_ids, sums)
        if sums.read >= sample:
            break
    an_edit = maker.tokens(sums.every, sums.every) * (0 if takes else 1000 / max(1, sums.read))
    scale = sampled.rows / max(1, sums.read)
    points = Range(math.floor(sums.points * scale), math.ceil(sums.points * scale))
    return Standby(
        hours=round(hours, 2),
        embedder=maker.spec.embedder,
        tokens_per_1000_edits=Range(math.floor(an_edit.low), math.ceil(an_edit.high)),
        dollars_per_1000_edits=_rounded(maker.dollars(an_edit)),
        disk=_size(points, maker, sums, former),
    )


def _size(points: Range, maker: Maker, sums: _Sums, source: Source) -> Range:
    payload = sums.payload / max(1, sums.read)
    size = collection_size(points, maker.dimensions or 0, payload, source.profile.collection)
    return Range(round(size.low), round(size.high))


def _rounded(dollars: Range | None) -> Range | None:
    """To hundredths of a cent: outwards, so that the price stays within."""
    return dollars and Range(math.floor(dollars.low * 1e4) / 1e4, math.ceil(dollars.high * 1e4) / 1e4)


def _add(connection: Connection, change: Change, item_ids: Sequence[str], sums: _Sums) -> None:
    after, before, maker = change.after, change.before, change.maker
    limits = chunk_tokens(connection, after, item_ids) if before else {}
    known = _indexed(connection, before, item_ids) if before and change.before_spec and not change.lost else {}
    found = find_rows(connection, after, item_ids)
    was = found.rows
    if before is not None and known and _reads_otherwise(before, after):
        was = find_rows(connection, before, item_ids).rows
    sums.unreadable += len(found.unreadable)
    for item_id, row in found.rows.items():
        limit = limits.get(item_id)
        try:
            chunks = maker.spec.within(limit).chunks(row.text, row.columns)
            there = _there(change, was.get(item_id), limit, known.get(item_id))
        except ChunkerFailed:
            sums.unreadable += 1
            continue
        sums.read += 1
        sums.points += len(chunks)
        sums.points_before += len(there) if there is not None else 0
        sums.payload += len(json.dumps(row.payload, default=str))
        if maker.spec.text_key and chunks:
            sums.payload += len(row.text.encode("utf-8", "replace")) // len(chunks)
        _add_texts(change, row.text, chunks, {each.fingerprint for each in there or ()}, sums)


def _reads_otherwise(before: Source, after: Source) -> bool:
    """Whether the two definitions make other texts of a row."""
    told = [(each.text_columns, each.template, each.chunk_header, each.related) for each in (before, after)]
    return told[0] != told[1]


def _there(change: Change, row: Row | None, limit: int | None, indexed: str | None) -> Sequence[Chunk] | None:
    """The item's chunks that are in the index, by the former definition. None: they are not what the ledger knows."""
    if change.before_spec is None or indexed is None or row is None:
        return None
    chunks = change.before_spec.within(limit).chunks(row.text, row.columns)
    return chunks if item_fingerprint(chunks) == indexed else None


def _add_texts(change: Change, text: str, chunks: Sequence[Chunk], there: set[str], sums: _Sums) -> None:
    maker = change.maker
    some_certain = some_possible = False
    estimated_most = 0
    for chunk in chunks:
        part = chunk.input(text)
        estimated = estimate_tokens(part)
        exact = maker.count(part) if maker.count else 0
        sums.every.add(part, estimated, exact)
        if chunk.fingerprint in there and (change.takes or not change.anew):  # guard plan-known-chunks
            continue
        some_possible, estimated_most = True, estimated_most + estimated
        sums.most.add(part, estimated, exact)
        if change.elsewhere or chunk.fingerprint in sums.seen:
            continue  # another item of a claim may bring the vector along, or another collection holds it
        some_certain = True
        sums.seen.add(chunk.fingerprint)
        sums.least.add(part, estimated, exact)
    sums.items_least += some_certain
    sums.items_most += some_possible
    if some_possible:
        sums.of_items.append(estimated_most)


def _indexed(connection: Connection, source: Source, item_ids: Sequence[str]) -> dict[str, str]:
    parameters = {"source": source.name, "item_ids": list(item_ids)}
    return dict(connection.execute(load("estimate.sql")["indexed"], parameters).fetchall())


def _row_sizes(connection: Connection, *, attached: bool) -> tuple[float, float]:
    row = connection.execute(load("plan.sql")["row_sizes"]).fetchone() if attached else None
    ledger, due = row or (None, None)
    return float(ledger or LEDGER_ROW), float(due or DUE_ROW)


def _minutes(connection: Connection, change: Change, items: float, tokens: float) -> float | None:
    """By the last run that embedded all it went over, and not quicker than the provider's limit."""
    if not items:
        return 0.0
    found = []
    if change.before is not None and (run := _teacher(recent(connection, change.before.name))):
        found.append(items / (run.rate or 1.0) / 60)
    if change.maker.tokens_per_minute:
        found.append(tokens / change.maker.tokens_per_minute)
    return round(max(found), 1) if found else None


def _teacher(runs: Sequence[Run]) -> Run | None:
    """The newest run that embedded what it went over: of a source's fills only the first is sure to have."""
    first = min((each.id for each in runs if each.kind == "first_fill"), default=None)
    fits = [
        each
        for each in runs
        if (each.kind == "rebuild" or each.force or each.id == first) and each.rate and each.done >= LEARNED
    ]
    return max(fits, key=lambda each: each.id, default=None)
