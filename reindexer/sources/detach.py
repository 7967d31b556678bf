"""Detach: a table is no longer kept indexed. Its triggers go, and what is known of its items; it stays as it was."""

from __future__ import annotations

import time

from reindexer.audit import audited
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.queries import load
from reindexer.postgres.trigger_removal import remove

LOOK_S = 0.1


def detach(connection: Connection, source: Source, *, who: str, lease_s: float) -> int:
    """Stop indexing a source and forget it; returns how many items were known. Writers wait for nothing.

    What workers have in hand is waited for, `lease_s` at most, so that nobody writes to the collection afterwards. Safe
    to repeat where it was interrupted. Raises SourceError if the triggers can't be taken off.
    """
    queries, named = load("sources.sql"), {"name": source.name}
    with changing_triggers(connection):
        connection.execute(queries["start_detaching"], named)
        remove(connection, source)
        until = time.monotonic() + lease_s
        # guard detach-held-items-wait
        while connection.execute(queries["held"], named).fetchone() != (0,) and time.monotonic() < until:
            time.sleep(LOOK_S)
        with audited(connection, who, "detach", source.name) as draft:
            row = connection.execute(queries["forget"], named).fetchone()
            draft.details["items"] = items = int(row[0]) if row else 0
    return items
