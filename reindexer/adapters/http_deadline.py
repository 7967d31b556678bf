"""A deadline for a whole HTTP answer: the client's own timeouts apply to each read alone.

Without it the client waits for a body that comes byte by byte as long as it drips. As a response hook of httpx (or
httpx2) it learns the connection once the headers are there, and shuts it down at the deadline. (It does not notice
headers that drip; the lease is checked before each write all the same.) One thread watches all answers: to start a
thread per answer took 0.3 ms.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from reindexer.core.per_process import PerProcess


class HttpDeadline:
    """The deadline of one client. Each thread has one answer at a time."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._watchdog = PerProcess(_Watchdog)

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """Around calls of the client that share `timeout_s`. Raises TimeoutError if an answer took longer."""
        self._mine.until, self._mine.answer = time.monotonic() + timeout_s, None
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
        """The response hook. httpx calls it when the headers are there and the body is not read yet."""
        self._end()
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None and hasattr(self._mine, "until"):
            self._mine.answer = _Answer(response, connection, self._mine.until)
            self._watchdog.get().watch(self._mine.answer)

    def _end(self) -> bool:
        """End the watch over the last answer. True if the deadline cut it."""
        answer: _Answer | None = getattr(self._mine, "answer", None)
        self._mine.answer = None
        if answer is None:
            return False
        answer.forget()
        return self._watchdog.get().leave(answer)


class _Answer:
    """An answer whose body is being read."""

    def __init__(self, response: Any, connection: socket.socket, until: float) -> None:
        self.until = until
        self.is_cut = False
        self._response = response
        self._connection = connection

    def forget(self) -> None:
        """The body is read. A response of httpx (not of httpx2) and its stream refer to each other: request and answer,
        2 MB per write, would stay until a garbage collection, which comes after hundreds of MB."""
        self._response.stream = None  # guard deadline-response-cycle-break

    def cut(self) -> None:
        self.is_cut = True
        with suppress(OSError):
            # Not the SSLSocket's own method, which would take its TLS away from under the thread that reads.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


class _Watchdog:
    """A thread that cuts answers at their deadline. It lives while there are answers to watch. It learns of finished
    answers at its next wake-up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._answers: set[_Answer] = set()
        self._wakes_at = 0.0
        self._is_there = False

    def watch(self, answer: _Answer) -> None:
        with self._changed:
            self._answers.add(answer)
            if not self._is_there:
                threading.Thread(target=self._run, name="answers", daemon=True).start()
                self._is_there = True
            elif answer.until < self._wakes_at:  # guard deadline-earliest-wakeup
                self._changed.notify()

    def leave(self, answer: _Answer) -> bool:
        """The body is read or given up, and the connection may be used again. True if the deadline cut the answer."""
        with self._changed:
            self._answers.discard(answer)  # guard deadline-finished-answer-spared
        return answer.is_cut

    def _run(self) -> None:
        with self._changed:
            while self._answers:
                now = time.monotonic()
                self._wakes_at = min(answer.until for answer in self._answers)
                if self._wakes_at > now:
                    self._changed.wait(self._wakes_at - now)
                    continue
                for answer in [answer for answer in self._answers if answer.until <= now]:
                    self._answers.remove(answer)
                    answer.cut()
            self._is_there = False
