"""The terms of a search: what it is to find, besides what it compares with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from reindexer.core.errors import UnfitRequest
from reindexer.core.filters import Filter
from reindexer.core.source import Source

MAX_LIMIT = 100
"""The most hits that one search returns."""
MAX_DEPTH = 1_000
"""The most hits that one search looks at: offset and limit together. An index without an offset finds them all."""
MAX_SOURCES = 16
"""The most sources that one search asks."""
MAX_SCORE = 1e9
"""No score needs to be larger, and every index can hold it."""

Group = Literal["item", "chunk"]
GROUPS: tuple[Group, ...] = get_args(Group)
Mode = Literal["hybrid", "meaning", "keywords"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """Which of the nearest points are hits, and which of these are returned."""

    limit: int
    """At most so many hits."""
    offset: int = 0
    """How many of the best hits are left out."""
    where: Filter = ()
    """The filter that each hit passes."""
    corpus: Filter = ()
    """How rare a word is counts among the points that pass this filter. Else a score would tell of the others."""
    min_score: float | None = None
    """The least score of a hit. Where a smaller score is nearer (the distances `euclid`, `manhattan`): the largest."""
    group: Group = "item"
    """`item`: each item is a hit once, by its nearest chunk. `chunk`: each chunk is a hit."""
    mode: Mode | None = None
    """By what the query is compared: by meaning, by keywords, or by both, fused by rank. None: by both where the source
    has keywords, else by meaning."""
    without_item: str | None = None
    """An item whose chunks are no hits."""

    @property
    def depth(self) -> int:
        """How many hits are looked at."""
        return self.offset + self.limit

    def check(self, sources: int = 1) -> None:
        """Raises UnfitRequest if a search of so many sources can't be asked so."""
        if not 1 <= sources <= MAX_SOURCES:
            raise UnfitRequest(f"a search is of {sources} sources; name 1 to {MAX_SOURCES}")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise UnfitRequest(f"limit is {self.limit}; use 1 to {MAX_LIMIT}")
        if self.offset < 0:
            raise UnfitRequest(f"offset is {self.offset}; use 0 or more")
        if self.depth > MAX_DEPTH:
            raise UnfitRequest(f"offset and limit are {self.depth:,} together; use at most {MAX_DEPTH:,}")
        if self.min_score is not None and not (math.isfinite(self.min_score) and abs(self.min_score) <= MAX_SCORE):
            raise UnfitRequest(f"min_score is out of range; use -{MAX_SCORE:,.0f} to {MAX_SCORE:,.0f}")
        if self.min_score is not None and sources > 1:
            raise UnfitRequest("min_score is for one source: several are fused by rank, and ranks are no scores")
        if self.group not in GROUPS:
            raise UnfitRequest(f"group is not known; use {' or '.join(GROUPS)}")
        if self.mode is not None and self.mode not in MODES:
            raise UnfitRequest(f"mode is not known; use {' or '.join(MODES)}")

    def mode_of(self, source: Source) -> Mode:
        """Return by what a query is compared with this source's points. Raises UnfitRequest if that can't be."""
        mode = self.mode or ("hybrid" if source.keywords else "meaning")
        if mode != "meaning" and not source.keywords:
            raise UnfitRequest(
                f"source {source.name!r} has no keywords; say mode meaning, or keywords = true in its definition"
            )
        if mode == "hybrid" and self.min_score is not None:
            raise UnfitRequest(
                f"source {source.name!r} is searched by keywords and meaning, fused by rank, and ranks are no scores: "
                "min_score is for mode meaning or keywords"
            )
        return mode
