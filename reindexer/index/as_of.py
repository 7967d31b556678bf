"""How current an answer is: the moment up to which a search has every change of a source.

Two statements tell it. The first looks for the earliest change that waits; it reads all that waits, so one look serves
many searches. The second, at each search, asks whether somebody looks at all rows, which brings what no change told of.
In this order: what was drained into a look at all rows before the first is seen by the second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from reindexer.core.errors import ReindexerError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

SHARE = 20
"""A look serves all searches of the process for so many times as long as it took: for seconds, if a million items wait.
What it tells stays true of its generation; more could be told by then."""
MAX_LOOK_S = 1.0
"""How long one look may take."""
_BOUNDED = "SELECT set_config('statement_timeout', %s, true), set_config('jit', 'off', true)"

Connecting = Callable[[], AbstractContextManager[Connection]]
"""Lends a connection to Postgres."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: datetime | None = None
    made: datetime | None = None
    """When its generation was made. A source that is attached anew has another one of the same number."""
    began: float = 0.0
    until: float = 0.0


@dataclass(slots=True)
class _Latest:
    lock: threading.Lock = field(default_factory=threading.Lock)
    look: _Look = _Look()


class AsOf:
    """What the searches of a process know of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[tuple[str, int], _Latest] = {}

    def of(self, connecting: Connecting, source: Source, since: float | None = None) -> datetime | None:
        """Return a moment, by Postgres's clock: each change of the source that was committed before it is in its
        generation's points, but of items that failed.

        To be asked before the index is. None: it is not known; that fails no search. `since`: a look has to have begun
        after that moment (`time.monotonic`); the caller waits for another's look for as long as two of them may take.
        """
        with self._lock:
            latest = self._latest.setdefault((source.name, source.generation), _Latest())
        look = latest.look
        needed = not look.began or (since is not None and look.began <= since)
        # Whoever waits here holds no connection.
        if latest.lock.acquire(timeout=2 * MAX_LOOK_S if needed else 0):  # guard as-of-beside-a-look
            try:
                look = latest.look
                if time.monotonic() >= look.until or (since is not None and look.began <= since):  # guard as-of-since
                    look = latest.look = _looked(connecting, source)
            finally:
                latest.lock.release()
        elif needed:
            return None
        filled = look.at and _asked(connecting, source, "as_of_filled")
        return look.at if filled and filled[0] == look.made else None  # guard as-of-its-generation


def _looked(connecting: Connecting, source: Source) -> _Look:
    began = time.monotonic()
    at, made = _asked(connecting, source, "as_of", MAX_LOOK_S) or (None, None)  # guard as-of-look-bounded
    ended = time.monotonic()
    return _Look(at, made, began, ended + SHARE * (ended - began))  # guard as-of-look-serves


def _asked(
    connecting: Connecting, source: Source, name: str, within_s: float | None = None
) -> tuple[datetime | None, ...] | None:
    """The row. None: there is none, or it can't be had: this role has no right, it takes too long, Postgres is away."""
    params = {"source": source.name, "generation": source.generation}
    try:
        with connecting() as connection:
            if within_s is None:
                return connection.execute(load("backlog.sql")[name], params).fetchone()
            with connection.transaction():
                connection.execute(_BOUNDED, [f"{within_s * 1000:.0f}"])
                return connection.execute(load("backlog.sql")[name], params).fetchone()
    except (psycopg.Error, ReindexerError):  # guard as-of-fails-no-search
        return None
