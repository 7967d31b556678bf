"""When a failed item is tried again. Randomness is an argument."""

from __future__ import annotations

from dataclasses import dataclass

HEALING_MINUTES = (1, 2, 4, 8, 15)
"""Waits in minutes before an item that FAILED with a transient cause is retried automatically. The last one repeats."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` attempts after the first. Waits grow from `base_s` to at most `max_s`, and jitter removes up to
    half."""

    max_retries: int = 3
    base_s: float = 1.0
    max_s: float = 60.0
    retry_schedule_s: float = 60.0
    """Seconds per minute of the automatic retry schedule: 60, unless a test shortens it."""
    recheck_schedule_s: float = 3600.0
    """Seconds per hour of the delayed verification schedule: 3600, unless a test shortens it."""

    def wait_s(self, attempt: int, jitter: float, retry_after_s: float | None = None) -> float:
        """Return the seconds before the next attempt. `attempt` counts from 1, `jitter` is in [0, 1)."""
        growing = min(self.max_s, self.base_s * 2.0 ** (attempt - 1)) * (0.5 + jitter / 2)
        return max(growing, min(retry_after_s, 3600.0)) if retry_after_s is not None else growing

    def exhausted(self, attempts: int) -> bool:
        """True when the attempts, including the first, are used up."""
        return attempts > self.max_retries

    def healing_wait_s(self, tries_since_failed: int) -> float:
        """Return the seconds until the next attempt of an item that FAILED, after so many attempts since it did."""
        return HEALING_MINUTES[min(tries_since_failed, len(HEALING_MINUTES) - 1)] * self.retry_schedule_s

    def died_too_often(self, losses: int) -> bool:
        """True when its claims were lost (a worker died, or stood still past the lease) as often as it may be tried."""
        return losses > self.max_retries

    def recheck_wait_s(self, doubted_ago_s: float | None, lease_s: float) -> float | None:
        """Return the seconds until the next verification of an item without a point.

        Verifications come one lease, an hour and a day after the item was last in doubt. None: none is left, or it
        never was in doubt.
        """
        if doubted_ago_s is None:
            return None
        waits_s = (lease_s, self.recheck_schedule_s, 24 * self.recheck_schedule_s)
        return min((wait_s - doubted_ago_s for wait_s in waits_s if wait_s > doubted_ago_s), default=None)
