"""A timer whose clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Timer:
    """Says once every `every_s` that it is time, by a clock that is handed in."""

    every_s: float
    next_s: float = 0.0

    def due(self, now_s: float) -> bool:
        """True, and wound up again, if the time has come."""
        if now_s < self.next_s:
            return False
        self.next_s = now_s + self.every_s
        return True
