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
        self._asked_at = 0.0
        self._until = 0.0
        self._fails = False

    async def get(self, *, within_s: float, old_s: float = 0.0) -> T | None:
        """The answer; None if the query failed or is late (then it goes on, and its answer serves a later call).

        `old_s`: an answer that was asked for no longer ago will do, though it is kept no more.
        """
        now = time.monotonic()
        if self._asking is None or (self._asking.done() and self._is_over(self._asking.result(), now, old_s)):
            self._asking, self._asked_at = self._executor.submit(self._timed), now
        asking = self._asking
        await asyncio.wait([asyncio.wrap_future(asking)], timeout=within_s)
        return asking.result()[0] if asking.done() else None

    def forget(self) -> None:
        """The next call asks anew, but for a query that is under way."""
        self._asked_at = 0.0
        if self._asking is not None and self._asking.done():
            self._asking = None

    def _is_over(self, answered: tuple[T | None, float], now: float, old_s: float) -> bool:
        answer, until = answered
        return now >= until and (answer is None or now >= self._asked_at + old_s)

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
