"""When a failed item is tried again. Chance is an argument."""

from __future__ import annotations

from dataclasses import dataclass

HEALING_MINUTES = (1, 2, 4, 8, 15)
"""Waits before an item that FAILED for a passing cause is tried again; the last one repeats."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` tries after the first, waits growing from `base_s` to at most `max_s`, jittered by half."""

    max_retries: int = 3
    base_s: float = 1.0
    max_s: float = 60.0
    healing_minute_s: float = 60.0
    """Seconds in a healing minute: 60, unless a test shortens it."""
    recheck_hour_s: float = 3600.0
    """Seconds in an hour of rechecks: 3600, unless a test shortens it."""

    def wait_s(self, attempt: int, chance: float, retry_after_s: float | None = None) -> float:
        """Seconds before the next try. `attempt` counts from 1, `chance` is in [0, 1)."""
        growing = min(self.max_s, self.base_s * 2.0 ** (attempt - 1)) * (0.5 + chance / 2)
        return max(growing, min(retry_after_s, 3600.0)) if retry_after_s is not None else growing

    def exhausted(self, attempts: int) -> bool:
        """True when the attempts, the first included, are used up."""
        return attempts > self.max_retries

    def healing_wait_s(self, healed: int) -> float:
        """Seconds until the next try of a FAILED item; `healed` counts the tries since it FAILED."""
        return HEALING_MINUTES[min(healed, len(HEALING_MINUTES) - 1)] * self.healing_minute_s

    def died_too_often(self, losses: int) -> bool:
        """True when its worker died, or stood still beyond the lease, as often as it may be tried."""
        return losses > self.max_retries

    def recheck_wait_s(self, doubted_ago_s: float | None, lease_s: float) -> float | None:
        """Seconds until the next look at an item without a point: one lease, an hour and a day after the last doubt.

        None: nothing is to be feared any more, or never was.
        """
        if doubted_ago_s is None:
            return None
        waits_s = (lease_s, self.recheck_hour_s, 24 * self.recheck_hour_s)
        return min((wait_s - doubted_ago_s for wait_s in waits_s if wait_s > doubted_ago_s), default=None)
