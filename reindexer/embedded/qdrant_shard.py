"""A shard of Qdrant's engine in its folder, and how much of what was written to it its log alone holds.

A flush holds the interpreter, for the engine lets go of it nowhere. How long it takes goes by how often it waits for
the disk, and by how many points were written since the last: ✓ 12 ms, 4 more for each 1,000 points, 20 more in a shard
of 80,000, on a disk that answers in 0.2 ms (some 80 times each). `sync` comes before it, from another thread: what it
has written the flush need not.
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
    """All but `sync` is for one thread alone (`turns`)."""

    engine: edge.EdgeShard
    folder: Path
    unflushed_points: int = 0
    """Those that a filter chose are not counted."""
    unflushed_bytes: int = 0

    @classmethod
    def make(cls, folder: Path, params: Mapping[str, Json], *, log: bool) -> Self:
        """A new one. `log`: whether its writes survive the process."""
        folder.mkdir(parents=True)
        return cls(edge.EdgeShard.create(str(folder), words.shard_config(params, log=log)), folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises ValueError, of which the engine has no kind of its own."""
        try:
            return cls(edge.EdgeShard.load(str(folder)), folder)
        except Exception as exc:
            raise ValueError(f"{folder.name}: {exc}") from exc

    def note(self, points: int, size: int) -> None:
        """So much is written."""
        self.unflushed_points += points
        self.unflushed_bytes += size

    def flush(self) -> None:
        """Write to the disk what the log alone holds so far, and let the log begin anew."""
        self.engine.flush()
        self.unflushed_points = self.unflushed_bytes = 0

    def sync(self) -> None:
        """Write to the disk what lies in the page cache. Holds nobody up; files may come and go meanwhile."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):
                    file = os.open(os.path.join(folder, name), os.O_RDONLY)
                    try:
                        os.fsync(file)
                    finally:
                        os.close(file)
