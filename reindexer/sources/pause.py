"""Pause and resume: claims skip the items of a paused source. Changes are still recorded and drained."""

from __future__ import annotations

from reindexer.audit import audited
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.store import find_source


def set_paused(connection: Connection, name: str | None, *, paused: bool, who: str) -> list[str]:
    """Pause or resume one source, or all. Returns their names. Raises UsageError if there is no source of that name."""
    if name is not None:
        find_source(connection, name)
    with audited(connection, who, "pause" if paused else "resume", name):
        rows = connection.execute(load("sources.sql")["set_paused"], {"name": name, "paused": paused})
        return [str(each) for (each,) in rows]
