"""Drain: move changes from the outbox to `due`, coalesced per item, in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

MAX_CHANGES = 20_000
"""Changes that one statement takes: it bounds memory and the time that rows are locked."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What one drain moved: changes taken, items that became due by lane, walks that were started."""

    changes: int
    live: int
    bulk: int
    walks: int
    looked_at: datetime
    """When it began, by the database's clock."""


def drain(connection: Connection, max_changes: int = MAX_CHANGES, *, looked_at: datetime | None = None) -> Drained:
    """Take up to `max_changes` changes. Any number of drains may run at once; each change is taken by one.

    `looked_at` is that of an earlier drain which left nothing: what is found now has committed since, however long ago
    its statement ran.
    """
    with connection.cursor(row_factory=class_row(Drained)) as cursor:
        drained = cursor.execute(
            load("drain.sql")["drain"], {"max_changes": max_changes, "looked_at": looked_at}
        ).fetchone()
    assert drained is not None
    return drained
