"""How far the index is: the moment up to which a search has every change of a source."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from psycopg.errors import InsufficientPrivilege, QueryCanceled

from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

SHARE = 20
"""A look serves all searches of the process for so many times as long as it took: for seconds, if a million items wait.
What it tells stays true of its generation; more could be told by then."""
MAX_LOOK_S = 1.0
"""Longer than that no search waits to be told."""
_BOUNDED = "SELECT set_config('statement_timeout', %s, true), set_config('jit', 'off', true)"


@dataclass(slots=True)
class _Looked:
    lock: threading.Lock = field(default_factory=threading.Lock)
    at: datetime | None = None
    until: float = 0.0


class AsOf:
    """What the searches of a process know of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked: dict[tuple[str, int], _Looked] = {}

    def of(self, connection: Connection, source: Source, *, anew: bool = False) -> datetime | None:
        """Return a moment, by Postgres's clock: each change of the source that was committed before it is in its
        generation's points, but of items that failed.

        To be asked before the index is. None: a first fill is not through, this role may not read what waits, or that
        took too long. `anew`: look, however short ago the last look was.
        """
        with self._lock:
            looked = self._looked.setdefault((source.name, source.generation), _Looked())
        if not looked.lock.acquire(blocking=anew or not looked.until):  # guard as-of-beside-a-look
            return looked.at
        try:
            began = time.monotonic()
            if anew or began >= looked.until:  # guard as-of-anew
                with suppress(QueryCanceled):  # what was told before stays true
                    looked.at = _look(connection, source)
                ended = time.monotonic()
                looked.until = ended + SHARE * (ended - began)  # guard as-of-look-serves
            return looked.at
        finally:
            looked.lock.release()


def _look(connection: Connection, source: Source) -> datetime | None:
    params = {"source": source.name, "generation": source.generation}
    try:
        with connection.transaction():
            # guard as-of-look-bounded
            connection.execute(_BOUNDED, [f"{MAX_LOOK_S * 1000:.0f}"])
            row = connection.execute(load("backlog.sql")["as_of"], params).fetchone()
    except InsufficientPrivilege:
        return None
    return None if row is None else row[0]
