"""A claim's lease, as whoever holds it sees it: how much time is left for each step."""

from __future__ import annotations

import time
from dataclasses import dataclass


class LeaseOver(Exception):
    """The claim's lease is over, or too nearly so to begin anything."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A little before the end of a lease, by a monotonic clock of this machine that goes on while it is suspended.

    Taken before the claim is sent, so that it is never later than the database's.
    """

    at: float
    CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    """Linux' monotonic clock stops while a laptop or a virtual machine sleeps; macOS' goes on."""

    @classmethod
    def after(cls, lease_s: float) -> Deadline:
        """The deadline of a claim that is about to be sent."""
        return cls(time.clock_gettime(cls.CLOCK) + lease_s - min(1.0, lease_s / 10))

    def left_s(self, *, keep_s: float = 0.0) -> float:
        """Seconds until `keep_s` before the deadline; below 0 after that."""
        return self.at - time.clock_gettime(self.CLOCK) - keep_s

    def cap(self, timeout_s: float, *, keep_s: float = 0.0, at_least_s: float = 0.0) -> float:
        """A timeout that ends `keep_s` before the deadline. Raises LeaseOver if no time, or less than that, is left."""
        left_s = self.left_s(keep_s=keep_s)
        if left_s <= at_least_s:  # guard lease-bounded-timeout
            raise LeaseOver
        return min(timeout_s, left_s)
