"""A claim's lease, from its holder's view: how much time is left for each step."""

from __future__ import annotations

import time
from dataclasses import dataclass


class LeaseExpired(Exception):
    """The claim's lease has expired, or too little of it is left to begin anything."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment shortly before the end of a lease, on a monotonic clock that keeps running while the machine is
    suspended.

    It is taken before the claim is sent, so it is never later than the database's deadline.
    """

    at: float
    CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    """Linux's monotonic clock stops while a laptop or a virtual machine sleeps; that of macOS goes on."""

    @classmethod
    def after(cls, lease_s: float) -> Deadline:
        """The deadline of a claim that is about to be sent."""
        return cls(time.clock_gettime(cls.CLOCK) + lease_s - min(1.0, lease_s / 10))

    def left_s(self, *, keep_s: float = 0.0) -> float:
        """Seconds until `keep_s` before the deadline; below 0 after that."""
        return self.at - time.clock_gettime(self.CLOCK) - keep_s

    def cap(self, timeout_s: float, *, keep_s: float = 0.0, at_least_s: float = 0.0) -> float:
        """Return `timeout_s`, shortened to end `keep_s` before the deadline.

        Raises LeaseExpired if no more than `at_least_s` is left.
        """
        left_s = self.left_s(keep_s=keep_s)
        if left_s <= at_least_s:  # guard lease-bounded-timeout
            raise LeaseExpired
        return min(timeout_s, left_s)


class RequestWindow:
    """The time that a claim has for several requests to one server, each of at most `timeout_s`.

    It ends `keep_s` before the deadline. A later request is not begun with less than half of the first one's time: the
    server would be blamed for the end of the lease. Raises LeaseExpired if not even the first may begin.
    """

    def __init__(self, deadline: Deadline, timeout_s: float, keep_s: float) -> None:
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._at_least_s = deadline.cap(timeout_s, keep_s=keep_s) / 2

    def next_s(self) -> float:
        """Return the timeout of the next request. Raises LeaseExpired if too little time is left for it."""
        return self._deadline.cap(self._timeout_s, keep_s=self._keep_s, at_least_s=self._at_least_s)

    def spare_s(self) -> float:
        """Return how long the next request may be put off."""
        return self._deadline.left_s(keep_s=self._keep_s) - self._at_least_s
