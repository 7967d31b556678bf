"""A connection that is kept while somebody asks again and again: to make one costs more than most questions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

import psycopg

from reindexer.postgres.connect import Connection, connect

T = TypeVar("T")

CONNECT_S = 2
IDLE_S = 5.0
"""A connection that nobody used for this long is closed. `/metrics` is usually asked less often."""


class KeptConnection:
    """One connection of its own: it reports an unreachable Postgres sooner, and with more detail, than a pool.

    Questions follow one another. Thread-safe.
    """

    def __init__(self, url: str, application_name: str, *, answer_s: float) -> None:
        """`answer_s`: the time limit of a statement."""
        self._url = url
        self._application_name = application_name
        self._answer_s = answer_s
        self._lock = threading.Lock()
        self._kept: Connection | None = None
        self._used_at = 0.0
        self._closed = False

    def ask(self, question: Callable[[Connection], T]) -> T:
        """The question's answer. Raises what `connect` raises, and what the question does.

        A kept connection may be to a server that has been restarted since: then it asks again on a new one.
        """
        with self._lock:
            kept, self._kept = self._kept, None
            if kept is not None:
                try:
                    return self._answer(kept, question)
                except psycopg.Error:
                    if not kept.broken:  # guard kept-connection-restarted
                        raise
            fresh = connect(
                self._url, application_name=self._application_name, timeout_s=CONNECT_S, answer_s=self._answer_s
            )
            return self._answer(fresh, question)

    def rest(self) -> None:
        """Close the connection if nobody has used it lately. Waits for no question."""
        if self._lock.acquire(blocking=False):
            try:
                if self._kept is not None and time.monotonic() >= self._used_at + IDLE_S:
                    self._kept.close()
                    self._kept = None
            finally:
                self._lock.release()

    def close(self) -> None:
        """Close the connection; one that is in use, after its question."""
        self._closed = True
        self._used_at = -IDLE_S
        self.rest()

    def _answer(self, connection: Connection, question: Callable[[Connection], T]) -> T:
        try:
            answer = question(connection)
        except psycopg.Error:
            if not connection.broken:
                connection.close()
            raise
        except BaseException:
            connection.close()
            raise
        self._used_at = time.monotonic()
        if self._closed:
            connection.close()
        else:
            self._kept = connection
        return answer


class Resting:
    """Closes connections that nobody asks any more. Called in the event loop, so it needs no lock."""

    def __init__(self, executor: Executor, connections: Sequence[KeptConnection]) -> None:
        self._executor = executor
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Somebody asked: look after a while whether that was the last time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(2 * IDLE_S, self._rest)

    def _rest(self) -> None:
        with suppress(RuntimeError):  # of an executor that has been shut down: what it asked with is closed
            for each in self._connections:
                self._executor.submit(each.rest)
