"""Drain: move changes from the outbox to `due`, coalesced per item, in one statement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection, keep_plan
from reindexer.postgres.queries import load
from reindexer.queue.watermark import Watermark

MAX_TRACES = 32
"""In so many traces one drain is told, and so many an item keeps."""
MANY = 500
"""What a drain took of a transaction that wrote so many items is kept apart from others'."""

MAX_CHANGES = 20_000
"""Maximum number of changes per statement. It bounds memory and the time that rows are locked."""


CHANGE_S = 0.00001
"""Time to drain one change without obstruction, in seconds."""

PASSED_PAGE_S = 0.00001
"""Time to pass over one page of dead rows, in seconds."""

FEW_PAGES = 100
"""Reading this many pages of the outbox takes negligible time."""

MAX_PAUSE_S = 1.0
"""Maximum time that a change waits for a scan of the whole outbox."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What one drain moved: changes taken, items that became due by lane, runs over whole sources started, and
    values of related tables noted. `bulk` is without the items of generations that no search uses."""

    changes: int
    live: int
    bulk: int
    walks: int
    related: int
    looked_at: datetime | None
    """When the drain began, by the database's clock. None: it did not take all that it saw of the whole outbox."""
    first_page: int | None
    """Page of the outbox from which the first change was taken."""
    traceparents: Sequence[str] = ()
    """Of the marked transactions whose changes it took, the oldest first, as their writers gave them."""

    @property
    def due(self) -> Mapping[Lane, int]:
        """Items that became due, by lane, and that workers are told of at once."""
        return {Lane.LIVE: self.live, Lane.BULK: self.bulk}


def outbox_watermark() -> Watermark[int]:
    """Return a low watermark for drains, as a page number of the outbox.

    Pages below it may be filled again. Their changes wait for the next whole scan.
    """
    return Watermark(MAX_PAUSE_S)


def drain(
    connection: Connection,
    max_changes: int = MAX_CHANGES,
    *,
    looked_at: datetime | None = None,
    watermark: Watermark[int] | None = None,
) -> Drained:
    """Take up to `max_changes` changes. Any number of drains may run at once; each change is taken by one.

    `looked_at` is that of an earlier drain which left nothing. Whatever this drain finds has therefore committed since
    then, however long ago its statement ran.
    """
    began_s = time.monotonic()
    begin = watermark.begin(began_s) if watermark else None
    params = {
        "max_changes": max_changes,
        "looked_at": looked_at,
        "begin": f"({begin or 0},0)",
        "max_traces": MAX_TRACES,
        "many": MANY,
    }
    # A plan made while the outbox was small reads all of it, wherever the scan is to begin.
    prepare = False if begin else keep_plan(max_changes)
    with connection.cursor(row_factory=class_row(Drained)) as cursor:
        drained = cursor.execute(load("drain.sql")["drain"], params, prepare=prepare).fetchone()
    assert drained is not None
    if watermark:
        ended_s = time.monotonic()
        page = begin if drained.first_page is None else drained.first_page
        took_s = ended_s - began_s - drained.changes * CHANGE_S
        if drained.first_page is not None:  # guard drain-time-of-rows
            # On a busy machine rows take longer than `CHANGE_S`, and no look at the whole outbox is slow for that.
            took_s = min(took_s, drained.first_page * PASSED_PAGE_S)
        watermark.found(begin, page if page and page > FEW_PAGES else None, ended_s, took_s)
    return drained
