"""Advisory locks of the program: one class, a number each. They are visible at once and freed by a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reindexer.postgres.connect import Connection

LOCK_CLASS = 1919249769
"""'rein' as an integer."""

LEADER_LOCK = 1
"""Held by the listener that leads."""

BELL_LOCK = 2
"""Held exclusively by the leader while it sleeps; the triggers try it shared to learn whether they must ring."""

MIGRATE_LOCK = 3
"""Held while triggers are made or removed."""

BELL_CHANNEL = "reindexer_bell"


@contextmanager
def changing_triggers(connection: Connection) -> Iterator[None]:
    """Wait until nobody else makes or removes triggers, and keep others from it."""
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK])
