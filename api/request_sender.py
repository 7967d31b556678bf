"""The sender: sends the messages of committed reindex requests, so that no answer of the API waits for the broker.

The listener sends what the sender does not (the broker is away, the process dies): the requests are in Postgres.
"""

from __future__ import annotations

import threading

import psycopg
import structlog

from reindexer.core.errors import ReindexerError
from reindexer.ports import Broker
from reindexer.postgres.connect import Postgres
from reindexer.queue.requests import send_unsent

log = structlog.get_logger(__name__)

BATCH = 500
"""Reindex requests that are taken at once. A process that dies does not send those that it has taken."""

MAX_PAUSE_S = 10.0


class RequestSender:
    """One background thread, started by the first `kick`. It ends with `close`, and never keeps the process alive."""

    def __init__(self, postgres: Postgres, broker: Broker) -> None:
        self._postgres = postgres
        self._broker = broker
        self._lock = threading.Lock()
        self._kicked = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def kick(self) -> None:
        """Start sending unsent reindex requests. Returns at once."""
        with self._lock:
            if self._stop.is_set():
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
                self._thread.start()
        self._kicked.set()

    def close(self, *, timeout_s: float = 5.0) -> None:
        """End the thread, after one last attempt if requests are unsent. Waits for it at most `timeout_s`."""
        with self._lock:
            self._stop.set()
            thread = self._thread
        self._kicked.set()
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._kicked.wait()
            self._kicked.clear()
            self._send_until_none_is_left()
            if self._stop.is_set():
                return

    def _send_until_none_is_left(self) -> None:
        """Retries after 1 s, 2 s … 10 s while broker or Postgres is away, and once more after `close`."""
        pause_s = 0.0
        while True:
            last = self._stop.is_set()
            try:
                self._send_all()
            except (ReindexerError, psycopg.Error) as exc:
                if not pause_s:
                    log.warning("request_dispatch_delayed", error=_reason(exc))
                pause_s = min(MAX_PAUSE_S, pause_s + 1.0)
            else:
                if pause_s:
                    log.info("request_dispatch_resumed")
                return
            if last:
                return
            self._stop.wait(pause_s)

    def _send_all(self) -> None:
        while True:
            with self._postgres.connection() as connection:
                if not send_unsent(connection, self._broker, older_s=0, limit=BATCH):
                    return


def _reason(exc: Exception) -> str:
    """The text of our own errors is fit for logs; the server's may quote a row."""
    return str(exc) if isinstance(exc, ReindexerError) else type(exc).__name__
