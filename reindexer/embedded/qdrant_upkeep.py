"""Upkeep of the embedded Qdrant: a thread that flushes what was written, and reclaims the space of deleted points.

Each step is queued among the requests, and short requests go first.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Self

from reindexer.embedded.qdrant_collection import Collection
from reindexer.embedded.qdrant_shard import Shard
from reindexer.embedded.qdrant_store import Store
from reindexer.embedded.turns import BYTES_PER_S, Turns

LOOK_S = 0.25
MOST_S = 120.0
"""The longest pause between two rounds, after failures such as a full disk."""
PASSED_BYTES = BYTES_PER_S // 4
"""A step lets requests pass that arrive within the next quarter of a second."""
FLUSH_BYTES = 32 * 1024 * 1024
"""A start replays what was written since the last flush. This bounds that to some seconds."""
FLUSH_POINTS = 4_000
"""A flush blocks all requests, longer the more points were written. So it runs often."""
QUIET_S = 1.0
"""After this time without requests a flush disturbs nobody."""
HOLD_S = 0.1
"""Otherwise a flush waits until the disk is so quick that it will block requests for no more than about this long."""
WAITS = 40
"""How often a flush waits for the disk, however little was written since the last one."""
PUT_OFF = 8
"""At this multiple of the amount that makes a flush due, it runs whatever the moment."""

AWAIT_S = 5.0
"""How long a complete copy waits for a good moment: what is written meanwhile has to be copied, too."""

log = logging.getLogger("uvicorn.error")


class Upkeep:
    """The upkeep of one store; runs within `with`. `hold_s`: how long a flush that can wait may block requests."""

    def __init__(self, store: Store, turns: Turns, *, hold_s: float = HOLD_S) -> None:
        self._store, self._turns, self._hold_s = store, turns, hold_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = LOOK_S
        while not self._ended.wait(wait_s):
            failed = False
            for collection in list(self._store.collections.values()):
                try:
                    self._look_after(collection)
                except CancelledError:
                    return
                except BaseException:  # the engine's panics are no Exceptions; requests are served meanwhile
                    if collection.is_open:
                        failed = True
                        log.exception("upkeep failed; the next try is in %.0f s", min(2 * wait_s, MOST_S))
            wait_s = min(2 * wait_s, MOST_S) if failed else LOOK_S

    def _look_after(self, collection: Collection) -> None:
        self._flush_due(collection)
        if collection.is_loose or self._is_quiet:
            self._let_go(collection)
        if collection.is_loose:
            self._compact(collection)

    @property
    def _is_quiet(self) -> bool:
        return self._turns.quiet_s > QUIET_S

    def _flush_due(self, collection: Collection) -> None:
        for shard in (collection.current, collection.fresh):
            if shard is not None:
                # guard embedded-flush-by-points
                waits = max(shard.unflushed_bytes / FLUSH_BYTES, shard.unflushed_points / FLUSH_POINTS)
                if waits >= PUT_OFF or (waits >= 1 and self._is_good_moment):  # guard embedded-flush-delay-limit
                    self._flush(collection, shard)

    @property
    def _is_good_moment(self) -> bool:
        return self._is_quiet or WAITS * self._store.disk_s() < self._hold_s  # guard embedded-stream-flush

    def _flush(self, collection: Collection, shard: Shard) -> None:
        shard.sync()
        self._turns.put(PASSED_BYTES, lambda: shard.flush() if collection.is_open else None).result()

    def _compact(self, collection: Collection) -> None:
        steps, look_at = collection.compacting(uuid.uuid4().hex, self._store.keep), 0.0

        def step() -> bool | None:
            """Run the next step and return what it yields; None after the last."""
            return next(steps, None) if collection.is_open else None

        try:
            while not self._ended.is_set() and (is_whole := self._turns.put(PASSED_BYTES, step).result()) is not None:
                if is_whole and collection.fresh is not None:  # guard embedded-new-shard-flushed
                    self._await_good_moment()
                    self._flush(collection, collection.fresh)
                if time.monotonic() > look_at:
                    self._flush_due(collection)
                    look_at = time.monotonic() + LOOK_S
        finally:
            self._turns.put(0, steps.close).result()

    def _await_good_moment(self) -> None:
        until = time.monotonic() + AWAIT_S
        while not self._is_good_moment and time.monotonic() < until and not self._ended.wait(LOOK_S):
            pass

    def _let_go(self, collection: Collection) -> None:
        """Free the replaced shard. The engine frees much memory for that. It takes longer than a flush (✓ 0.35 s for
        200,000 points), so it waits for a quiet second, or for the next compacting. The folder is deleted outside of
        the queue."""
        if collection.replaced is not None:
            collection.replaced.sync()
            if folder := self._turns.put(PASSED_BYTES, collection.let_go).result():
                shutil.rmtree(folder, ignore_errors=True)  # guard embedded-old-shard-removed
