"""The places at which a parsed text may be cut, collected level by level."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from reindexer.core.text.chunks import Places

DEEPEST = 12
"""What is nested deeper counts as this deep: the levels of a text are few, however it is nested."""


class PlaceCollector:
    """Collects places. A place that is named twice keeps its first level."""

    def __init__(self) -> None:
        self._levels: defaultdict[int, list[int]] = defaultdict(list)
        self._known: set[int] = set()

    def add(self, place: int, level: int) -> None:
        """The text may be cut before the character `place`. The lowest level is the strongest."""
        if place not in self._known:
            self._known.add(place)
            self._levels[level].append(place)

    def places(self) -> Places:
        """The places in order, the strongest level first."""
        return [sorted(self._levels[level]) for level in sorted(self._levels)]


def characters(data: bytes) -> NDArray[np.int64]:
    """Return the number of the character that begins at each byte of UTF-8; shape (bytes + 1,)."""
    begins = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
    return np.concatenate([[0], np.cumsum(begins)])
