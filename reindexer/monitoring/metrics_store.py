"""Counters: a process's tally, added to the table `counter` a few seconds after something was counted.

Workers and listeners can't be scraped one by one: they are many, on many hosts, behind no port. So each adds to the
same table, and `/metrics` sums it up. No item waits for that: a thread of its own does it. What is killed loses at most
the last seconds of its counts; a connection that breaks while its commit is answered may count them twice.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping

import psycopg
import structlog

from reindexer.core.errors import ReindexerError
from reindexer.monitoring.buffer import Series, Tally
from reindexer.postgres.connect import Connection, Postgres, connect
from reindexer.postgres.queries import load

log = structlog.get_logger(__name__)

WRITE_S = 5.0
END_S = 5.0
"""How long a process that ends waits for a write that is under way."""
SLOTS = 16
"""Rows for each series, so that processes seldom wait for each other's commit."""


def write(connection: Connection, sums: Mapping[Series, float]) -> None:
    """Add sums to what all processes have counted.

    The commit waits for the disk: a crash that took counts back would look like a reset, which a Prometheus
    answers by counting everything anew.
    """
    if sums:
        series = sorted(sums)
        connection.execute(
            load("metrics_store.sql")["add"],
            {
                "names": [name for name, _ in series],
                "labels": [labels for _, labels in series],
                "amounts": [sums[each] for each in series],
                "slot": random.randrange(SLOTS),  # noqa: S311
            },
        )


def read(connection: Connection) -> Mapping[Series, float]:
    """What all processes have counted, ever."""
    rows = connection.execute(load("metrics_store.sql")["sums"])
    return {(name, labels): value for name, labels, value in rows}


def write_tally(connection: Connection, tally: Tally) -> None:
    """Add a tally to what all processes have counted, and empty it; if that fails it stays as it was."""
    sums = tally.take()
    try:
        write(connection, sums)
    except BaseException:
        tally.give_back(sums)  # guard counter-unwritten-kept
        raise


class Counters(Tally):
    """A tally that writes itself: `WRITE_S` after its first count, in a thread that lives no longer than that."""

    def __init__(self, postgres: Postgres) -> None:
        super().__init__()
        self._postgres = postgres
        self._closed = False
        self._failing = False
        self._writing = threading.Lock()

    def write(self) -> None:
        """Write now. What can't be written is kept, and tried again."""
        if self._closed or not self:
            return
        try:
            with self._writing, self._postgres.connection() as connection:
                write_tally(connection, self)
        except (ReindexerError, psycopg.Error) as exc:
            self._tell(exc)
        else:
            self._failing = False

    def close(self) -> None:
        """Write what is left, on a connection of its own: the pool may be gone. From now on nothing is written."""
        self._closed = True
        if not (self or self._writing.locked()):
            return
        waited = self._writing.acquire(timeout=END_S)  # the thread would die with what it has just taken
        try:
            with connect(self._postgres.url, application_name="reindexer counters", timeout_s=2) as connection:
                write_tally(connection, self)
        except (ReindexerError, psycopg.Error) as exc:
            self._tell(exc)
        finally:
            if waited:
                self._writing.release()

    def _filled(self) -> None:
        if not self._closed:
            timer = threading.Timer(WRITE_S, self.write)
            timer.daemon = True
            timer.start()

    def _tell(self, exc: Exception) -> None:
        if not self._failing:
            log.warning("counters_wait", error=type(exc).__name__)
        self._failing = True
