"""Webhooks over HTTP: one POST each, on connections that are kept. It follows no redirect and uses no proxy.

The standard library's client: httpx takes 1.5 ms of CPU for a POST where this takes 0.3, and the sender is a thread of
the listener, beside the thread that drains.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from reindexer.core.errors import DependencyUnavailable, TimedOut
from reindexer.core.per_process import PerProcess
from reindexer.ports import WebhookAnswer

MAX_BODY = 65_536
"""So much of an answer is read, to keep its connection. What is longer ends the connection."""

_LOST = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""How a kept connection fails that the other side has closed."""


class HttpWebhooks:
    """`reindexer.ports.Webhooks` over HTTP. Each thread has a connection of its own for each server."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._open: dict[http.client.HTTPConnection, float] = {}
        """Those that wait for an answer, and until when (monotonic)."""
        self._tls = PerProcess(ssl.create_default_context)  # at the first need: it reads all authorities

    def post(self, url: str, body: bytes, headers: dict[str, str], *, timeout_s: float) -> WebhookAnswer:
        """See `reindexer.ports.Webhooks`."""
        parts = urlsplit(url)
        place = (parts.scheme, parts.hostname or "", parts.port)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        until = time.monotonic() + timeout_s
        try:
            connection, is_new = self._connection(place, timeout_s)
            try:
                return self._ask(connection, path, body, headers, until)
            except _LOST:
                if is_new:  # guard event-kept-connection
                    raise
            connection, _ = self._connection(place, max(0.01, until - time.monotonic()))
            return self._ask(connection, path, body, headers, until)
        except TimeoutError as exc:
            raise TimedOut("no answer in time") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            if time.monotonic() >= until:
                raise TimedOut("no answer in time") from exc
            raise DependencyUnavailable(f"no answer: {type(exc).__name__}") from exc

    def cut_late(self) -> None:
        """See `reindexer.ports.Webhooks`."""
        now = time.monotonic()
        with self._lock:
            late = [connection.sock for connection, until in self._open.items() if until <= now]
        for each in late:
            if each is not None:
                with suppress(OSError):  # not the SSLSocket's own method, which would take its TLS away
                    socket.socket.shutdown(each, socket.SHUT_RDWR)

    def close(self) -> None:
        """See `reindexer.ports.Webhooks`."""
        if (connection := getattr(self._mine, "connection", None)) is not None:
            connection.close()

    def _connection(
        self, place: tuple[str, str, int | None], timeout_s: float
    ) -> tuple[http.client.HTTPConnection, bool]:
        """This thread's connection, and whether it is a new one."""
        if getattr(self._mine, "place", None) == place and self._mine.connection.sock is not None:
            self._mine.connection.timeout = timeout_s
            self._mine.connection.sock.settimeout(timeout_s)
            return self._mine.connection, False
        self.close()
        scheme, host, port = place
        made: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls.get())
            if scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout_s)
        )
        self._mine.place, self._mine.connection = place, made
        return made, True

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str], until: float
    ) -> WebhookAnswer:
        with self._lock:
            self._open[connection] = until
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()  # its status says all; the body is read to keep the connection
            answer.read(MAX_BODY)
            if not answer.isclosed():
                connection.close()
            return WebhookAnswer(answer.status, _retry_after_s(answer))
        except BaseException:
            connection.close()
            raise
        finally:
            with self._lock:
                del self._open[connection]


def _retry_after_s(answer: http.client.HTTPResponse) -> float | None:
    told = answer.getheader("retry-after")
    if told is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(told))
    with suppress(ValueError, TypeError):  # a date: the difference to the server's own clock
        until, sent = parsedate_to_datetime(told), parsedate_to_datetime(answer.getheader("date") or "")
        return max(0.0, (until - sent).total_seconds())
    return None
