"""A shard of Qdrant's engine in its folder, and how much of its data is only in its write-ahead log.

A flush holds the GIL: the engine never releases it. Its time depends on how often it waits for the disk, and on how
many points were written since the last flush: ✓ 12 ms, 4 more for each 1,000 points, 20 more in a shard of 80,000, on a
disk that answers in 0.2 ms (about 80 times each). `sync` runs before it, in another thread: the flush need not write
again what `sync` has written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import qdrant_edge as edge

from reindexer.embedded import qdrant_words as words
from reindexer.embedded.qdrant_words import Json


@dataclass(slots=True)
class Shard:
    """One thread alone may use it (`turns`); only `sync` may run in another."""

    engine: edge.EdgeShard
    folder: Path
    unflushed_points: int = 0
    """Without points that a filter chose."""
    unflushed_bytes: int = 0

    @classmethod
    def make(cls, folder: Path, params: Mapping[str, Json], *, log: bool) -> Self:
        """Create a shard. `log`: whether its writes survive the process."""
        folder.mkdir(parents=True)
        return cls(edge.EdgeShard.create(str(folder), words.shard_config(params, log=log)), folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a shard. Raises ValueError: the engine has no exception class of its own."""
        try:
            return cls(edge.EdgeShard.load(str(folder)), folder)
        except Exception as exc:
            raise ValueError(f"{folder.name}: {exc}") from exc

    def note(self, points: int, size: int) -> None:
        """Count what was written: points and bytes."""
        self.unflushed_points += points
        self.unflushed_bytes += size

    def flush(self) -> None:
        """Write to disk what only the log holds so far, and start the log anew."""
        self.engine.flush()
        self.unflushed_points = self.unflushed_bytes = 0

    def sync(self) -> None:
        """Write the page cache to disk. It blocks no other thread; files may come and go meanwhile."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):
                    file = os.open(os.path.join(folder, name), os.O_RDONLY)
                    try:
                        os.fsync(file)
                    finally:
                        os.close(file)
