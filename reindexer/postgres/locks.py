"""The program's advisory locks: one class, one number per lock. They are visible at once and freed by a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reindexer.postgres.connect import Connection

LOCK_CLASS = 1919249769
"""'rein' as an integer."""

LEADER_LOCK = 1
"""Held by the listener that leads."""

WAKE_LOCK = 2
"""Held exclusively by the idle leader. A trigger tries it in shared mode; if it can't have it, it sends NOTIFY."""

MIGRATE_LOCK = 3
"""Held while triggers are created or removed."""

PROMOTION_LOCKS = LOCK_CLASS + 1
"""A class of its own, a number for each source. A promotion holds it alone. What must not fall into the promotion's
commit, a request or the settling of a deletion, shares it."""

WAKE_CHANNEL = "reindexer_bell"

RELEASE_CHANNEL = "reindexer_released"
"""Notified where something that a mark waits for is done, or has failed."""


@contextmanager
def changing_triggers(connection: Connection) -> Iterator[None]:
    """Wait until no other session creates or removes triggers, and exclude other sessions from it."""
    # No lock timeout, for this statement alone: another session may create triggers on many tables.
    wait = "SELECT set_config('lock_timeout', '0', true), pg_advisory_lock(%s, %s)"
    connection.execute(wait, [LOCK_CLASS, MIGRATE_LOCK])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK])


@contextmanager
def changing_triggers_if_free(connection: Connection) -> Iterator[bool]:
    """The same without a wait: false if another session creates or removes triggers now."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK]).fetchone()
    is_ours = bool(row and row[0])
    try:
        yield is_ours
    finally:
        if is_ours and not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK])


def promoting(connection: Connection, source: str) -> None:
    """Wait for whoever holds promotions of the source up, and hold others up until this transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [PROMOTION_LOCKS, source])


def unpromoted(connection: Connection, source: str) -> None:
    """Wait until no promotion of the source is about to commit, and let none begin to before this transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s, hashtext(%s))", [PROMOTION_LOCKS, source])
