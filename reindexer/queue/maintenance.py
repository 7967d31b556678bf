"""Maintenance, by the leading listener's timer: rechecks deletions, deletes old records."""

from __future__ import annotations

from reindexer import audit
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

MAX_RECHECKED = 5_000
KEEP_DAYS = 7
"""How long answered requests and deleted items are kept."""


def recheck(connection: Connection) -> int:
    """Make items due again whose point was deleted, but may have come back by a late write of an earlier claim.

    The next claim reads the row as it is then, and deletes the point under a new token if there is no row. Returns how
    many.
    """
    return len(connection.execute(load("maintenance.sql")["recheck"], {"limit": MAX_RECHECKED}).fetchall())


def forget(connection: Connection) -> None:
    """Delete requests and deleted items older than `KEEP_DAYS`, and old entries of the audit."""
    for query in ("forget_requests", "forget_deleted", "forget_long_keys"):
        connection.execute(load("maintenance.sql")[query], {"days": KEEP_DAYS})
    connection.execute(load("heartbeat.sql")["forget_processes"], {"days": 1})
    audit.forget(connection)
