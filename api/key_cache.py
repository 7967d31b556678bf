"""What keys allow, asked of Postgres and kept for less than 5 s: so a revoked key ends everywhere within 5 s."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from reindexer.api_keys import FoundKey, find
from reindexer.core.api_key import Access, key_hash
from reindexer.core.errors import ReindexerError, TransientError
from reindexer.postgres.connect import Postgres

KEEP_S = 4.0
"""How long an answer is used, from before its question on. Never longer, also while Postgres is away."""
KEEP_FAILURE_S = 1.0
MAX_KEPT = 1_000
"""Answers that are kept at once, those about unknown keys too."""
MAX_LOOKUPS = 2
"""Connections that lookups use at once, so that a flood of wrong keys leaves the others to requests."""
MAX_WAITING = 200
"""Lookups that wait or run. What comes beyond is answered at once, by 503."""

Answer = FoundKey | ReindexerError | None


@dataclass(frozen=True, slots=True)
class _Lookup:
    asked_at: float
    """On the monotonic clock."""
    answer: Future[Answer]

    def serves(self, now: float) -> bool:
        """Whether it may still be used, or is under way."""
        if not self.answer.done():
            return True
        keep_s = KEEP_FAILURE_S if isinstance(self.answer.result(), ReindexerError) else KEEP_S
        return now < self.asked_at + keep_s  # guard key-cache-bounded

    def access(self) -> Access | None:
        """What the key allows now. Raises what its lookup met."""
        found = self.answer.result()
        if isinstance(found, ReindexerError):
            raise found
        # guard key-expires-while-kept
        if found is None or (found.left_s is not None and time.monotonic() >= self.asked_at + found.left_s):
            return None
        return found.access


class KeyCache:
    """Finds keys. Called in the event loop, so it needs no lock."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._executor = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="keys")
        self._free = threading.BoundedSemaphore(MAX_WAITING)
        self._lookups: dict[bytes, _Lookup] = {}
        self._failure: tuple[float, ReindexerError] | None = None
        """What the last lookup met, and when. Those that wait need not wait for the same."""

    async def find(self, key: str) -> Access | None:
        """What a key allows. None: it is no live key. Raises DependencyUnavailable if Postgres does not answer."""
        known, now = key_hash(key), time.monotonic()
        lookup = self._lookups.get(known)
        if lookup is None or not lookup.serves(now):
            if not self._free.acquire(blocking=False):
                raise TransientError("too many unknown keys are asked for; try again")
            lookup = _Lookup(now, self._executor.submit(self._look, key))
            self._lookups.pop(known, None)
            self._lookups[known] = lookup
            if len(self._lookups) > MAX_KEPT:
                del self._lookups[next(iter(self._lookups))]
        await asyncio.wait([asyncio.wrap_future(lookup.answer)])
        return lookup.access()

    def close(self) -> None:
        """Start no more lookups."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _look(self, key: str) -> Answer:
        try:
            if self._failure is not None and time.monotonic() < self._failure[0] + KEEP_FAILURE_S:
                return self._failure[1]
            with self._postgres.connection() as connection:
                return find(connection, key)
        except ReindexerError as exc:
            self._failure = time.monotonic(), exc
            return exc
        finally:
            self._free.release()
