"""Runs requests one at a time, and decides which waiting request is next."""

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
"""A request lets smaller ones pass for as long as its own body would take at this rate."""


class Turns:
    """A thread that runs requests one after the other.

    A real server works on a small request beside a large one. Here the small one goes first. So an edit's point waits
    only for the batch that is being written, not for the batches of a backfill that are queued before it. No request
    waits for ever: only requests that arrive within the time that its size is worth may pass it.
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
        """Finish the running request and give up the waiting ones."""
        self._put(-math.inf, None)
        self._thread.join()

    async def take(self, size: int, work: Callable[[], T]) -> T:
        """Run `work` when its turn comes. `size`: in bytes. Raises what `work` raises."""
        self._asked_at = time.monotonic()
        return await asyncio.wrap_future(self.put(size, work))

    @property
    def quiet_s(self) -> float:
        """Seconds since the last request."""
        return time.monotonic() - self._asked_at

    def put(self, size: int, work: Callable[[], T]) -> Future[T]:
        """As `take`, for threads other than the event loop's."""
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
