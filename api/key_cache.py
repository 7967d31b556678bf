"""What keys allow, asked of Postgres and kept for less than 5 s: so a revoked key ends everywhere within 5 s."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from reindexer.api_keys import FoundKey, find_hash
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

TRIES = 2
"""How often a request asks because Postgres answers too late."""


@dataclass(frozen=True, slots=True)
class _Answer:
    asked_at: float
    """On the monotonic clock: just before its question, or when that failed."""
    found: FoundKey | Exception | None

    def serves(self, now: float) -> bool:
        """Whether it may still be used."""
        keep_s = KEEP_FAILURE_S if isinstance(self.found, Exception) else KEEP_S
        return now < self.asked_at + keep_s  # guard key-cache-bounded

    def access(self, now: float) -> Access | None:
        """What the key allows now. Raises what the question met."""
        found = self.found
        if isinstance(found, Exception):
            raise found
        # guard key-expires-while-kept
        if found is None or (found.left_s is not None and now >= self.asked_at + found.left_s):
            return None
        return found.access


class KeyCache:
    """Finds keys. Called in the event loop, so it needs no lock."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._executor = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="keys")
        self._free = threading.BoundedSemaphore(MAX_WAITING)
        self._lookups: dict[bytes, Future[_Answer]] = {}
        self._failure: _Answer | None = None
        """What the last lookup met. Those that wait need not wait for the same."""

    async def find(self, key: str) -> Access | None:
        """What a key allows. None: it is no live key. Raises DependencyUnavailable if Postgres does not answer, and
        TransientError if it answers too late."""
        return await self.find_hash(key_hash(key))

    async def find_hash(self, known: bytes) -> Access | None:
        """The same of the key with this hash, for who has proved before that they have the key."""
        for _ in range(TRIES):
            lookup = self._lookup(known)
            await asyncio.wait([asyncio.wrap_future(lookup)])
            answer, now = lookup.result(), time.monotonic()
            if isinstance(answer.found, Exception) or answer.serves(now):  # guard key-answer-late
                return answer.access(now)
        raise TransientError("Postgres answers too late to tell what the key allows; try again")

    def close(self) -> None:
        """Start no more lookups."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _lookup(self, known: bytes) -> Future[_Answer]:
        """One that serves or is under way, else a new one."""
        lookup = self._lookups.get(known)
        if lookup is not None and (not lookup.done() or lookup.result().serves(time.monotonic())):
            return lookup
        if not self._free.acquire(blocking=False):
            raise TransientError("too many unknown keys are asked for; try again")
        lookup = self._executor.submit(self._look, known)
        self._lookups.pop(known, None)
        self._lookups[known] = lookup
        if len(self._lookups) > MAX_KEPT:
            del self._lookups[next(iter(self._lookups))]
        return lookup

    def _look(self, known: bytes) -> _Answer:
        try:
            if self._failure is not None and self._failure.serves(time.monotonic()):
                return self._failure
            with self._postgres.connection() as connection:
                asked_at = time.monotonic()
                return _Answer(asked_at, find_hash(connection, known))
        except Exception as exc:  # noqa: BLE001  raised where it is asked, and not kept for good
            failed = _Answer(time.monotonic(), exc)
            if isinstance(exc, ReindexerError):
                self._failure = failed
            return failed
        finally:
            self._free.release()
