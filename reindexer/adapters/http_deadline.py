"""A deadline for a whole HTTP answer, where the client's own timeouts hold for each read alone.

Without it a body that comes byte by byte is waited for as long as it drips. As a response hook of httpx (or httpx2) it
knows the connection from the headers on, and shuts it down when time is up. (Headers that drip are not noticed; the
lease is asked before each write all the same.)
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class HttpDeadline:
    """Of one client; each thread has one answer at a time."""

    def __init__(self) -> None:
        self._mine = threading.local()

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """Around calls of the client that may take so long together. Raises TimeoutError if an answer took longer."""
        self._mine.until, self._mine.watch = time.monotonic() + timeout_s, None
        cut = False
        try:
            yield
        except Exception as exc:
            if self._end():
                raise TimeoutError("its answer is not through in time") from exc
            raise
        finally:
            cut = self._end()
        if cut:
            raise TimeoutError("its answer is not through in time")

    def on_response(self, response: Any) -> None:
        """The hook: called when the headers are there, before the body is read."""
        self._end()
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None and hasattr(self._mine, "until"):
            self._mine.watch = _Watch(connection, self._mine.until - time.monotonic())

    def _end(self) -> bool:
        """End the watch over the last answer; True if it was cut."""
        watch: _Watch | None = getattr(self._mine, "watch", None)
        self._mine.watch = None
        return watch is not None and watch.end()


class _Watch:
    def __init__(self, connection: socket.socket, left_s: float) -> None:
        self._connection = connection
        self._cut = False
        self._timer = threading.Timer(max(0.0, left_s), self._shut_down)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> bool:
        self._timer.cancel()
        return self._cut

    def _shut_down(self) -> None:
        self._cut = True
        with suppress(OSError):
            # Not an SSLSocket's own, which would take its TLS away from under the thread that reads.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
