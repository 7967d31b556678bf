"""Right of way: in one process, work on edits goes ahead of work on a backfill.

They share an interpreter in which one thread runs at a time. A batch's requests and answers are large, and each keeps
it busy for 10 ms or more; an edit needs it a dozen times until its point is written. So a batch waits before each of
its requests while an edit is in work: not for long, so that an edit which itself waits for the provider holds nobody
up, and a stream of edits slows a backfill down and does not stop it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

AHEAD_S = 0.05
"""For so long an edit goes ahead, from the beginning of each step: the claim, the work on it, the write."""
GIVE_S = 0.1
"""How long a batch waits before a request at most,"""
GIVE_SHARE = 20
"""and no longer than a twentieth of the time that its claim still has."""


class Road:
    """Of one process. `ahead_s`: for how long a step goes ahead, from its beginning; `give_s`: the longest wait."""

    def __init__(self, ahead_s: float = AHEAD_S, give_s: float = GIVE_S) -> None:
        self._ahead_s = ahead_s
        self._give_s = give_s
        self._changed = threading.Condition()
        self._edits = 0
        self._until = -math.inf
        """When the last of them goes ahead no longer (monotonic)."""

    def enter(self) -> None:
        """An edit takes a step."""
        with self._changed:
            self._edits += 1
            self._until = time.monotonic() + self._ahead_s

    def leave(self) -> None:
        """It has taken it."""
        with self._changed:
            self._edits -= 1
            self._changed.notify_all()

    def wait(self, most_s: float) -> None:
        """While an edit goes ahead, so long at most."""
        give_until = time.monotonic() + min(most_s, self._give_s)  # guard lease-yield-limit
        with self._changed:
            # guard backfill-yield-limit
            while self._edits and (wait_s := min(self._until, give_until) - time.monotonic()) > 0:
                self._changed.wait(wait_s)


@dataclass(frozen=True, slots=True)
class Way:
    """Of one claim: an edit's goes ahead, a batch's gives way."""

    road: Road
    edit: bool

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Around a step."""
        if not self.edit:
            yield
            return
        self.road.enter()
        try:
            yield
        finally:
            self.road.leave()

    def give(self, left_s: float) -> None:
        """Before a request; takes little of what is left of the claim's time."""
        if not self.edit:
            self.road.wait(left_s / GIVE_SHARE)
