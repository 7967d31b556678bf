"""Answers that several requests share: one query at a time, and an expensive answer is kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


class CachedQuery(Generic[T]):
    """The answer to one query, which runs in a thread.

    It is kept for `keep_s`, or for `keep_ratio` times as long as it took if that is longer. So however often it is
    requested, the query takes at most that share of the time. Called in the event loop, so it needs no lock.
    """

    def __init__(
        self, executor: Executor, name: str, ask: Callable[[], T], *, keep_s: float = 1.0, keep_ratio: float = 0.0
    ) -> None:
        self._executor = executor
        self._name = name
        self._ask = ask
        self._keep_s = keep_s
        self._keep_ratio = keep_ratio
        self._asking: Future[tuple[T | None, float]] | None = None
        self._until = 0.0
        self._fails = False

    async def get(self, *, within_s: float) -> T | None:
        """The answer; None if the query failed or is late (then it goes on, and its answer serves a later call)."""
        if self._asking is None or (self._asking.done() and time.monotonic() >= self._asking.result()[1]):
            self._asking = self._executor.submit(self._timed)
        asking = self._asking
        await asyncio.wait([asyncio.wrap_future(asking)], timeout=within_s)
        return asking.result()[0] if asking.done() else None

    def _timed(self) -> tuple[T | None, float]:
        """The answer, and the time (monotonic) until which it is kept."""
        started = time.monotonic()
        try:
            answer, reason = self._ask(), None
        except Exception as exc:  # noqa: BLE001  a question that breaks has no answer
            answer, reason = None, type(exc).__name__
        if reason is not None and not self._fails:
            log.warning("metrics_query_failed", question=self._name, error=reason)
        self._fails = reason is not None
        now = time.monotonic()
        return answer, now + max(self._keep_s, self._keep_ratio * (now - started))
