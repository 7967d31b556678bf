"""A low watermark: where the next scan of a queue begins, so that it skips rows that were taken out before.

A deleted row stays in its table and indexes until no transaction can see it any more. While an old snapshot is open (a
pg_dump, a forgotten BEGIN), every scan from the queue's beginning passes over everything that was done since. A scan
therefore begins where the last one found something. From time to time one begins at the start, so that no row below the
watermark is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

FREE_S = 0.003
"""Whole scans that take no longer than this are made every time, so that no row waits for one."""

DUTY = 20
"""Whole scans use at most about 1/20 of the time beyond `FREE_S`."""


@dataclass(slots=True)
class Watermark(Generic[T]):
    """The watermark of one queue in one process. A hint, not state: it may be lost, or wrong for `max_pause_s`."""

    max_pause_s: float
    _at: T | None = None
    _whole_at_s: float = 0.0

    def begin(self, now_s: float) -> T | None:
        """Where the next scan begins. None: at the queue's beginning."""
        return self._at if now_s < self._whole_at_s else None  # guard claim-periodic-full-scan

    def found(self, began: T | None, at: T | None, ended_s: float, took_s: float) -> None:
        """Record what a scan from `began` found: its first row at `at`, or None if it can't tell.

        `took_s` excludes the time spent on the rows themselves.
        """
        self._at = at
        if began is None:
            self._whole_at_s = ended_s + min(self.max_pause_s, DUTY * max(0.0, took_s - FREE_S))
