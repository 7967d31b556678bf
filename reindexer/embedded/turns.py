"""Turns: one request at a time, and which of those that wait comes next."""

import asyncio
import itertools
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

BYTES_PER_S = 4 * 1024 * 1024
"""A request may be passed by smaller ones for as long as its own body would take at this rate."""


class Turns:
    """A thread that does what is asked for, one thing after the other.

    A real server works on a small request beside a large one. Here it goes first: an edit's point does not wait for the
    batches of a backfill that came before it, but for the one that is being written. None waits for ever: a request is
    passed only by those that come within the time that its size is worth.
    """

    def __init__(self) -> None:
        self._waiting: queue.PriorityQueue[tuple[float, int, Future[Any], Callable[[], Any] | None]]
        self._waiting = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._work, name="turns")
        self._asked_at = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """What is being done ends; what waits is given up."""
        self._put(-math.inf, None)
        self._thread.join()

    async def take(self, size: int, work: Callable[[], T]) -> T:
        """Do it when its turn comes; `size` in bytes. Raises what it raises."""
        self._asked_at = time.monotonic()
        return await asyncio.wrap_future(self.put(size, work))

    @property
    def quiet_s(self) -> float:
        """For how long nobody has taken one."""
        return time.monotonic() - self._asked_at

    def put(self, size: int, work: Callable[[], T]) -> Future[T]:
        """The same, for another thread than the loop's."""
        return self._put(time.monotonic() + size / BYTES_PER_S, work)

    def _put(self, at: float, work: Callable[[], Any] | None) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((at, next(self._numbers), future, work))
        return future

    def _work(self) -> None:
        while True:
            _, _, future, work = self._waiting.get()
            if work is None:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001 - whoever asked raises it
                future.set_exception(exc)
            else:
                future.set_result(result)
