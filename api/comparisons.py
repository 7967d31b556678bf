"""A comparison of a source with its index that runs while somebody listens: lines of JSON tell how far it is.

It reads, so nothing is lost if it ends: when the client goes, when the server is told to end, or when it is killed. A
repair makes items due page by page, which may be done again: what a killed one has left is found by the next.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import structlog

from reindexer.core.errors import ReindexerError
from reindexer.index.reconcile import Progress
from reindexer.logs import where
from reindexer.reconciling import Reconciled

log = structlog.get_logger(__name__)

TELL_S = 1.0


class _Stopped(Exception):
    """Nobody listens any more."""


@dataclass(slots=True)
class _Going:
    stopped: threading.Event = field(default_factory=threading.Event)
    stage: str = "rows"
    done: int = 0

    def tell(self, stage: str, done: int) -> None:
        """Called between two pages."""
        if self.stopped.is_set():  # guard comparison-stops-with-client
            raise _Stopped
        self.stage, self.done = stage, done


Compare = Callable[[Progress], tuple[Reconciled, str | None]]
"""Compares, and repairs if that is wanted. Returns what it found, and why it did not repair."""


class Comparisons:
    """One at a time in a process: each reads whole tables."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="compare")
        self._free = threading.BoundedSemaphore(1)
        self._going: _Going | None = None

    def begin(self, compare: Compare) -> Lines | None:
        """Start it. None: another one is going on."""
        if not self._free.acquire(blocking=False):  # guard comparison-one-at-a-time
            return None
        going = self._going = _Going()
        ended = self._executor.submit(self._run, compare, going)
        ended.add_done_callback(lambda _: self._free.release())
        return Lines(going, ended)

    def is_free(self) -> bool:
        """Whether one could begin now."""
        free = self._free.acquire(blocking=False)
        if free:
            self._free.release()
        return free

    def close(self) -> None:
        """End what is going on after its page."""
        if self._going is not None:
            self._going.stopped.set()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, compare: Compare, going: _Going) -> dict[str, object]:
        try:
            result, refused = compare(going.tell)
        except _Stopped:
            return {"error": "it was stopped"}
        except ReindexerError as exc:
            return {"error": str(exc)}
        except Exception as exc:  # noqa: BLE001  its text may quote a row
            log.error("unexpected_error", **where(exc))
            return {"error": "an unexpected error; the log says where"}
        return {"result": asdict(result), **({"error": refused} if refused else {})}


class Lines:
    """What is told of one comparison."""

    def __init__(self, going: _Going, ended: Future[dict[str, object]]) -> None:
        self._going = going
        self._ended = ended

    async def told(self, ending: asyncio.Event) -> AsyncIterator[str]:
        """A line a second, then the result. If nobody reads them, or `ending` is set, the comparison stops."""
        began = time.monotonic()
        result = asyncio.wrap_future(self._ended)
        try:
            while not result.done() and not ending.is_set():
                await asyncio.wait({result}, timeout=TELL_S)
                if not result.done():
                    yield _line(
                        stage=self._going.stage, done=self._going.done, seconds=round(time.monotonic() - began, 1)
                    )
            yield _line(**(result.result() if result.done() else {"error": "the server ends; compare again"}))
        finally:
            self._going.stopped.set()


def _line(**members: object) -> str:
    return json.dumps(members, separators=(",", ":")) + "\n"
