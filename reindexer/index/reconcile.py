"""Reconcile: compare a source's table with its points in Qdrant, in both directions, by asking Qdrant itself.

The ledger is not trusted, because it is wrong after a restore of either side. Whatever differs at the first look is a
suspect. It counts only if it differs again at a second look with nothing in flight. A repair writes nothing to Qdrant.
It makes the items due and marks them in doubt, so that workers repair them like any other item, under a token above the
one that Qdrant holds.

Memory is bounded: a page of rows, a page of points, and a spool on disk. Not detected: a vector that was changed while
its fingerprint was left beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from reindexer import audit
from reindexer.core.errors import ChunkerFailed, ReindexerError, TransientError
from reindexer.core.items import Row, StoredPoint
from reindexer.core.source import Source
from reindexer.core.text.batching import slices
from reindexer.core.text.embedding_spec import Chunk, EmbeddingSpec
from reindexer.core.wording import counted
from reindexer.index.difference import Kind, row_difference
from reindexer.index.fenced import Place
from reindexer.index.spool import Spool, Suspect
from reindexer.ports import Collection, Index, KeywordEncoder
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.chunk_sizes import chunk_tokens
from reindexer.sources.key_pages import key_page
from reindexer.sources.rows import find_rows

PAGE = 256
"""Maximum rows whose texts are held at a time."""
PAGE_S = 60.0
TRIES = 4
"""Attempts per question to Qdrant, which may be unavailable for a moment during an hour-long comparison."""
PAUSE_S = 1.0
"""Pause before a second look: a write that Qdrant has answered may reach its replicas a moment later."""
EXAMPLES = 10
"""Maximum ids listed per kind of difference."""
FREE_DELETIONS = 100
FREE_SHARE = 0.1
"""This many orphans, or this share of the points, may be deleted without an explicit limit."""

T = TypeVar("T")


class TooManyDeletions(ReindexerError):
    """The repair would delete more than was allowed. Nothing was done."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: a source's table, and its points as the embedder would have made them."""

    connection: Connection
    index: Index
    source: Source
    collection: Collection
    spec: EmbeddingSpec
    """The source's embedding spec with the workers' embedder."""
    timeout_s: float
    encoder: KeywordEncoder | None = None
    """Of the source's keywords. None: it has none."""

    def difference(self, row: Row, chunks: Sequence[Chunk], stored: Mapping[Place, StoredPoint]) -> Kind | None:
        """Return what is wrong with a row's points. `stored`: the index."""
        return row_difference(row, chunks, stored, self.spec.text_key, self.encoder.document if self.encoder else None)


@dataclass(slots=True)
class Findings:
    """The differences. Counts items (missing, stale) and points (orphaned)."""

    rows: int = 0
    points: int = 0
    """Points of the source, without foreign ones."""
    foreign: int = 0
    """Points without our payload fields, or of another source. They are never touched."""
    missing: int = 0
    """Rows with text that lack a point."""
    stale: int = 0
    """Rows whose point has the fingerprint of another text or model, another payload, or other keywords."""
    orphaned: int = 0
    """Points without a row or without text in it, and surplus chunks."""
    unsettled: int = 0
    """Differed, but had something in flight until the end. Not judged."""
    unreadable: int = 0
    """Rows that can't be read, or whose text the source's chunker can't cut. Not judged."""
    unreadable_ids: list[str] = field(default_factory=list)
    """Some of them."""
    failed: int = 0
    """How many of the differences are FAILED in the ledger, with a reason."""
    examples: dict[Kind, list[str]] = field(default_factory=lambda: {"missing": [], "stale": [], "orphaned": []})
    wrong: Spool = field(default_factory=Spool)

    @property
    def differences(self) -> int:
        """The number of differences of all kinds."""
        return self.missing + self.stale + self.orphaned

    def close(self) -> None:
        """Free the disk space."""
        self.wrong.close()

    def count(self, kind: Kind, suspect: Suspect, *, failed: bool) -> None:
        """Record one difference that the second look confirmed."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.failed += failed
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(suspect.item_id)
        self.wrong.add(suspect)


Progress = Callable[[str, int], None]
"""Called with the name of the stage and the count so far."""


def compare(sides: Sides, progress: Progress, *, wait_s: float, pause_s: float = PAUSE_S) -> Findings:
    """Compare both ways, then look again at what differs, for up to `wait_s` longer where something is in flight.

    Raises SourceError if the table can't be read, TransientError if Qdrant stays unavailable.
    """
    findings, suspects = Findings(), Spool()
    try:
        _look_at_rows(sides, findings, suspects, progress)
        _look_at_points(sides, findings, suspects, progress)
        until = time.monotonic() + wait_s
        while suspects.count:
            time.sleep(pause_s)
            suspects = _look_again(sides, findings, suspects, progress)
            if time.monotonic() > until:
                break
        findings.unsettled = suspects.count
    finally:
        suspects.close()
    return findings


def repair(sides: Sides, findings: Findings, *, who: str, max_deletions: int | None) -> int:
    """Make every item that differs due. Returns how many items. An item that a claim holds now counts as unsettled.

    Raises TooManyDeletions if there are more orphans than `max_deletions`, or by default than `FREE_DELETIONS` and
    `FREE_SHARE` allow.
    """
    check_deletions(findings, max_deletions)  # guard reconcile-deletion-limit
    kinds: tuple[Kind, ...] = ("missing", "stale", "orphaned")
    audit.note(sides.connection, who, "repair", sides.source.name, {kind: getattr(findings, kind) for kind in kinds})
    query, queued = load("reconcile.sql")["make_due"], 0
    for batch in findings.wrong.batches(PAGE):
        item_ids = [suspect.item_id for suspect in batch]
        made = sides.connection.execute(
            query,
            _of(sides) | {"item_ids": item_ids, "tokens": [suspect.token for suspect in batch]},
        ).fetchall()
        queued += len(made)
        findings.unsettled += len(set(item_ids)) - len(made)
    return queued


def check_deletions(findings: Findings, max_deletions: int | None) -> None:
    """Raises TooManyDeletions. Many orphans often mean the wrong database, not points to delete."""
    allowed = max(FREE_DELETIONS, int(findings.points * FREE_SHARE)) if max_deletions is None else max_deletions
    if findings.orphaned > allowed:
        raise TooManyDeletions(
            f"{findings.orphaned:,} of {counted(findings.points, 'point')} would be deleted, more than {allowed}; "
            f"nothing was repaired. If that is right: --max-deletions {findings.orphaned}"
        )


def _look_at_rows(sides: Sides, findings: Findings, suspects: Spool, progress: Progress) -> None:
    after: str | None = None
    while True:
        page = key_page(sides.connection, sides.source, after, PAGE, timeout_s=PAGE_S)
        found = _read(sides, page.item_ids)
        stored = _stored(sides, _wanted(found.chunks))
        findings.rows += len(found.rows)
        findings.unreadable += len(found.unreadable)
        findings.unreadable_ids += found.unreadable[: EXAMPLES - len(findings.unreadable_ids)]
        for item_id, row in found.rows.items():
            if sides.difference(row, found.chunks[item_id], stored):
                suspects.add(Suspect(item_id, None))
        progress("rows", findings.rows)
        if page.last is None:
            return
        after = page.last


def _look_at_points(sides: Sides, findings: Findings, suspects: Spool, progress: Progress) -> None:
    start: str | int | None = None
    while True:
        page = _patiently(partial(sides.index.scroll, sides.collection, start, PAGE, sides.timeout_s))
        found = _read(sides, list({point.item_id for point in page.points}))
        findings.points += len(page.points)
        findings.foreign += page.foreign
        for point in page.points:
            if point.item_id not in found.unreadable and point.chunk >= len(found.chunks.get(point.item_id, ())):
                suspects.add(Suspect(point.item_id, point.chunk, point.token))
        progress("points", findings.points + findings.foreign)
        if page.next is None:
            return
        start = page.next


def _look_again(sides: Sides, findings: Findings, suspects: Spool, progress: Progress) -> Spool:
    """Count what still differs with nothing in flight. Returns the suspects that have something in flight.

    "Nothing in flight" must hold before and after the look, with the same token. Otherwise a change that came and was
    settled in between would show its old row beside its new point.
    """
    left, looked = Spool(), 0
    for batch in suspects.batches(PAGE):
        item_ids = list({suspect.item_id for suspect in batch})
        before = _activity(sides, item_ids)
        found = _read(sides, item_ids)
        places = {(s.item_id, s.chunk) for s in batch if s.chunk is not None}
        stored = _stored(sides, [*_wanted(found.chunks), *places])
        tokens = {point.item_id: point.token for point in sorted(stored.values(), key=lambda point: point.token)}
        after = _activity(sides, item_ids)
        for suspect in batch:
            kind = _judge(
                sides, suspect, found.rows.get(suspect.item_id), found.chunks.get(suspect.item_id, ()), stored
            )
            if kind is None or suspect.item_id in found.unreadable:
                continue
            was, now = before[suspect.item_id], after[suspect.item_id]
            if was.moves or now.moves or was.token != now.token:  # guard reconcile-in-flight-ignored
                left.add(suspect)
                continue
            seen = max(suspect.token, tokens.get(suspect.item_id, 0))
            findings.count(kind, Suspect(suspect.item_id, suspect.chunk, seen), failed=now.failed)
        looked += len(batch)
        progress("second look", looked)
    suspects.close()
    return left


def _judge(
    sides: Sides,
    suspect: Suspect,
    row: Row | None,
    chunks: Sequence[Chunk],
    stored: Mapping[Place, StoredPoint],
) -> Kind | None:
    if suspect.chunk is None:
        return sides.difference(row, chunks, stored) if row else None
    there = (suspect.item_id, suspect.chunk) in stored
    return "orphaned" if there and suspect.chunk >= len(chunks) else None


@dataclass(frozen=True, slots=True)
class _Activity:
    moves: bool
    token: int
    failed: bool


def _of(sides: Sides) -> dict[str, Any]:
    return {"source": sides.source.name, "generation": sides.source.generation}


def _activity(sides: Sides, item_ids: Sequence[str]) -> Mapping[str, _Activity]:
    rows = sides.connection.execute(load("reconcile.sql")["activity"], _of(sides) | {"item_ids": list(item_ids)})
    return {str(item_id): _Activity(moves, token, failed) for item_id, moves, token, failed in rows}


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: Mapping[str, Row]
    chunks: Mapping[str, Sequence[Chunk]]
    """Of each row."""
    unreadable: Sequence[str]
    """Ids of rows that can't be read or cut."""


def _read(sides: Sides, item_ids: Sequence[str]) -> _Rows:
    found = find_rows(sides.connection, sides.source, item_ids)
    most = chunk_tokens(sides.connection, sides.source, list(found.rows))
    rows, chunks, unreadable = {}, {}, list(found.unreadable)
    for item_id, row in found.rows.items():
        try:
            # guard reconcile-recorded-chunk-size
            chunks[item_id] = sides.spec.within(most.get(item_id)).chunks(row.text, row.columns)
        except ChunkerFailed:  # guard reconcile-chunker-failure
            unreadable.append(item_id)
        else:
            rows[item_id] = row
    return _Rows(rows, chunks, unreadable)


def _wanted(chunks: Mapping[str, Sequence[Chunk]]) -> list[tuple[str, int]]:
    return [(item_id, number) for item_id, each in chunks.items() for number in range(len(each))]


def _stored(sides: Sides, places: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], StoredPoint]:
    found: dict[tuple[str, int], StoredPoint] = {}
    for asked in slices(places, PAGE):
        found |= _patiently(partial(sides.index.stored, sides.collection, asked, sides.timeout_s))
    return found


def _patiently(ask: Callable[[], T]) -> T:
    for tried in range(1, TRIES):
        try:
            return ask()
        except TransientError as exc:
            time.sleep(exc.retry_after_s or tried)
    return ask()
