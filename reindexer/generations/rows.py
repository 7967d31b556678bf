"""The generations of a source, as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from reindexer.core.errors import GenerationConflict
from reindexer.core.source import Source
from reindexer.generations.lifecycle import State
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.store import find_source


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a source."""

    number: int
    state: State
    collection: str
    """Its collection in Qdrant, by its own name."""
    embedder: str | None
    """The fingerprint of the embedder that makes its vectors. None: no worker has begun yet."""
    problem: str | None
    """Why it can't be worked on; its items wait."""
    created_at: datetime
    activated_at: datetime | None
    """When searches came to use it, the last time."""
    retired_at: datetime | None
    standby_until: datetime | None
    """When a standby is dropped by itself."""
    emptied_at: datetime | None
    removed_at: datetime | None
    pending: int
    """Items that wait for it, or are claimed."""
    failed: int
    """Items that failed in it."""
    oldest_change_age_s: float | None
    run_id: int | None
    """The run that filled it, or does."""

    @property
    def is_kept(self) -> bool:
        """Whether it gets every change."""
        return self.state not in ("broken", "dropped")


def generations(connection: Connection, source: str) -> list[Generation]:
    """Return the generations of a source by number, also those that are dropped. Raises UsageError if there is no such
    source."""
    find_source(connection, source)
    with connection.cursor(row_factory=class_row(Generation)) as cursor:
        return cursor.execute(load("generations.sql")["of_source"], {"source": source}).fetchall()


def kept(connection: Connection, source: str, number: int) -> Source:
    """Return the source as a generation defines it. Raises GenerationConflict if that gets no edits (any more)."""
    found = {each.number: each for each in generations(connection, source)}.get(number)
    if found is None or not found.is_kept:
        raise GenerationConflict(
            f"there is no generation {number} of {source!r}"
            if found is None
            else f"generation {number} of {source!r} is {found.state}: it gets no edits any more"
        )
    return find_source(connection, source, number)
