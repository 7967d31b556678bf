"""Detach: stop indexing a table. Removes its triggers and all records of its items; the table itself stays as it
was."""

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
    """Stop indexing a source and delete its records. Returns how many items were known. Writers do not wait.

    Waits at most `lease_s` for the claims in progress, so that no worker writes to the collection afterwards. An
    interrupted detach may be repeated. Raises SourceError if the triggers can't be removed.
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
            connection.execute(queries["hold_generations"], named)  # guard detach-lock-order
            row = connection.execute(queries["forget"], named).fetchone()
            draft.details["items"] = items = int(row[0]) if row else 0
    return items
