"""The metrics store: each process's `MetricsBuffer`, added to the table `counter` a few seconds after something was
counted.

Workers and listeners can't be scraped one by one: they are many, on many hosts, and open no port. Each process
therefore adds to the same table, and `/metrics` sums it up. A separate thread writes, so that no item waits for it. A
killed process loses at most the last seconds of its counts. A connection that breaks while its commit is being answered
may count them twice.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping

import psycopg
import structlog

from reindexer.core.errors import ReindexerError
from reindexer.core.per_process import PerProcess
from reindexer.monitoring.buffer import MetricsBuffer, Series
from reindexer.monitoring.metrics import FORMER_NAMES
from reindexer.postgres.connect import Connection, Postgres, connect
from reindexer.postgres.queries import load

log = structlog.get_logger(__name__)

WRITE_S = 5.0
END_S = 5.0
"""How long an ending process waits for a write in progress."""
SLOTS = 16
"""Rows per series, so that processes seldom wait for each other's commit."""


def write(connection: Connection, sums: Mapping[Series, float]) -> None:
    """Add sums to the stored totals of all processes.

    The commit waits for the disk. If a crash took counts back, Prometheus would see a counter reset, and count
    everything again.
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
    """Return the totals that all processes have ever counted, also under a metric's former name."""
    today: dict[str, str] = {former: name for name, former in FORMER_NAMES.items()}
    sums: Counter[Series] = Counter()
    for name, labels, value in connection.execute(load("metrics_store.sql")["sums"]):
        sums[today.get(name, str(name)), labels] += value
    return sums


def write_metrics(connection: Connection, metrics: MetricsBuffer) -> None:
    """Add a buffer to the stored totals, and empty it. If that fails, the buffer keeps its sums."""
    sums = metrics.take()
    try:
        write(connection, sums)
    except BaseException:
        metrics.give_back(sums)  # guard counter-unwritten-kept
        raise


class Counters(MetricsBuffer):
    """A metrics buffer that writes itself in a short-lived thread, `WRITE_S` after its first count."""

    def __init__(self, postgres: Postgres) -> None:
        super().__init__()
        self._postgres = postgres
        self._closed = False
        self._failing = False
        self._writing = PerProcess(threading.Lock)

    def write(self) -> None:
        """Write now. Sums that can't be written are kept, and are written with a later attempt."""
        if self._closed or not self:
            return
        try:
            with self._writing.get(), self._postgres.connection() as connection:
                write_metrics(connection, self)
        except (ReindexerError, psycopg.Error) as exc:
            self._tell(exc)
        else:
            self._failing = False

    def close(self) -> None:
        """Write the remaining sums, on a separate connection because the pool may be gone. Later counts are not
        written."""
        self._closed = True
        writing = self._writing.get()
        if not (self or writing.locked()):
            return
        waited = writing.acquire(timeout=END_S)  # the thread would die with the sums it has just taken
        try:
            with connect(self._postgres.url, application_name="reindexer counters", timeout_s=2) as connection:
                write_metrics(connection, self)
        except (ReindexerError, psycopg.Error) as exc:
            self._tell(exc)
        finally:
            if waited:
                writing.release()

    def _filled(self) -> None:
        if not self._closed:
            timer = threading.Timer(WRITE_S, self.write)
            timer.daemon = True
            timer.start()

    def _tell(self, exc: Exception) -> None:
        if not self._failing:
            log.warning("metrics_flush_failed", error=type(exc).__name__)
        self._failing = True
