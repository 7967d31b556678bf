"""A timer whose clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Timer:
    """Is due once every `every_s`, by a clock that the caller passes in."""

    every_s: float
    next_s: float = 0.0

    def due(self, now_s: float) -> bool:
        """Return True, and restart the timer, if its time has come."""
        if now_s < self.next_s:
            return False
        self.next_s = now_s + self.every_s
        return True
