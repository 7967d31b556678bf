"""Times that are compared with each other."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median


def median_ratio(ours: Callable[[], float], theirs: Callable[[], float], *, pairs: int = 7) -> float:
    """The median of ratios of two times in seconds. The two of a pair are measured one right after the other.

    A machine's clock may change by a factor of two from one second to the next: the best time of one side and the best
    of the other may come from different clocks.
    """
    return median(ours() / theirs() for _ in range(pairs))
