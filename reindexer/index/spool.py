"""A spool: suspects on disk that wait for a second look. A million of them must not be held in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

IN_MEMORY_BYTES = 1_000_000
"""No file is created up to this size."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something that looked wrong: a row (`chunk` is None), or one point."""

    item_id: str
    chunk: int | None
    token: int = 0
    """The highest token that was found on it in the index."""


class Spool:
    """Suspects in the order in which they were added. Add all first, then read."""

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, mode="w+")  # noqa: SIM115
        self.count = 0

    def add(self, suspect: Suspect) -> None:
        """Append one suspect."""
        self._file.write(json.dumps([suspect.item_id, suspect.chunk, suspect.token]) + "\n")
        self.count += 1

    def batches(self, size: int) -> Iterator[tuple[Suspect, ...]]:
        """Yield all suspects, `size` at a time. May be called again."""
        self._file.seek(0)
        suspects = (Suspect(*json.loads(line)) for line in self._file)
        while batch := tuple(islice(suspects, size)):
            yield batch

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()
