"""A floor: where the next look into a queue begins, so that it need not walk through what was taken out before.

A row that was deleted stays in its table and indexes until no transaction can see it any more. While an old snapshot is
open (a pg_dump, a forgotten BEGIN), each look from the queue's beginning walks through everything that was done since.
So a look begins where the last one found something; and now and then at the beginning, lest a row below be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

FREE_S = 0.003
"""A whole look that takes no longer is repeated each time, so that no row waits for it."""

DUTY = 20
"""The time beyond that is at most about this part of all."""


@dataclass(slots=True)
class Floor(Generic[T]):
    """Of one queue, as one process knows it: a memory, not a state, so it may be lost or wrong for `max_pause_s`."""

    max_pause_s: float
    _at: T | None = None
    _whole_at_s: float = 0.0

    def begin(self, now_s: float) -> T | None:
        """Where the next look begins; None: at the queue's beginning."""
        return self._at if now_s < self._whole_at_s else None  # guard claim-periodic-full-scan

    def found(self, began: T | None, at: T | None, ended_s: float, took_s: float) -> None:
        """What a look that began at `began` found: its first row at `at`; None: it can't tell. `took_s` is without what
        was done with the rows."""
        self._at = at
        if began is None:
            self._whole_at_s = ended_s + min(self.max_pause_s, DUTY * max(0.0, took_s - FREE_S))
