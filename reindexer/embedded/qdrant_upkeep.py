"""Upkeep of the embedded Qdrant: a thread that flushes what was written, and wins back the room of deleted points.

Each step takes its turn among the requests, and a request that is short goes first.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from reindexer.embedded.qdrant_collection import Collection
from reindexer.embedded.qdrant_store import Store
from reindexer.embedded.turns import BYTES_PER_S, Turns

LOOK_S = 0.25
MOST_S = 120.0
"""After failures, a full disk say, looks come so far apart at most."""
PASSED_BYTES = BYTES_PER_S // 4
"""A step lets pass what comes within a quarter of a second."""
FLUSH_BYTES = 32 * 1024 * 1024
"""A start does again what was written since the last flush: some seconds' work, at most."""
FLUSH_ANYWAY_BYTES = 4 * FLUSH_BYTES
QUIET_S = 1.0
"""A flush holds everybody up for as long as the disk takes, so it waits for a moment in which nobody asks."""

log = logging.getLogger("uvicorn.error")


class Upkeep:
    """Of one store. Runs within `with`."""

    def __init__(self, store: Store, turns: Turns) -> None:
        self._store, self._turns = store, turns
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
                except BaseException:  # the engine's panics are no Exceptions; requests are answered meanwhile
                    if collection.is_open:
                        failed = True
                        log.exception("upkeep failed; the next try is in %.0f s", min(2 * wait_s, MOST_S))
            wait_s = min(2 * wait_s, MOST_S) if failed else LOOK_S

    def _look_after(self, collection: Collection) -> None:
        waits, is_quiet = collection.unflushed_bytes, self._turns.quiet_s > QUIET_S
        if waits > FLUSH_ANYWAY_BYTES or (waits > FLUSH_BYTES and is_quiet):
            _sync(collection.folder)
            self._turns.put(PASSED_BYTES, collection.flush).result()
        if collection.replaced is not None and (is_quiet or collection.is_loose):
            self._turns.put(PASSED_BYTES, collection.let_go).result()
        if collection.is_loose:
            self._compact(collection)

    def _compact(self, collection: Collection) -> None:
        steps = collection.compacting(uuid.uuid4().hex, self._store.keep)

        def step() -> bool:
            """Whether more are to come."""
            return collection.is_open and next(steps, steps) is not steps

        try:
            while not self._ended.is_set() and self._turns.put(PASSED_BYTES, step).result():
                pass
        finally:
            self._turns.put(0, steps.close).result()


def _sync(folder: Path) -> None:
    """Write to the disk what lies in the page cache: the flush that follows, which holds the interpreter, finds little
    left to do."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
