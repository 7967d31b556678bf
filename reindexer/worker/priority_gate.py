"""Priority gate: within one process, edits take precedence over backfills.

Both share an interpreter that runs one thread at a time. A batch's requests and answers are large, and each occupies
the interpreter for 10 ms or more. An edit needs it about a dozen times until its point is written. A batch therefore
waits before each of its requests while an edit is in progress. The wait is short: an edit that itself waits for the
provider delays nothing else, and a stream of edits slows a backfill without stopping it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

AHEAD_S = 0.05
"""How long an edit has precedence, from the beginning of each step: the claim, the work on it, the write."""
GIVE_S = 0.1
"""Maximum time that a batch waits before a request."""
GIVE_SHARE = 20
"""A batch also waits no longer than this part (a twentieth) of the time that its claim still has."""


class PriorityGate:
    """The priority gate of one process.

    `ahead_s`: how long an edit's step has precedence, from its beginning. `give_s`: the longest wait of a batch.
    """

    def __init__(self, ahead_s: float = AHEAD_S, give_s: float = GIVE_S) -> None:
        self._ahead_s = ahead_s
        self._give_s = give_s
        self._changed = threading.Condition()
        self._edits = 0
        self._until = -math.inf
        """When the precedence of the last step ends (monotonic)."""

    def enter(self) -> None:
        """Begin a step of an edit."""
        with self._changed:
            self._edits += 1
            self._until = time.monotonic() + self._ahead_s

    def leave(self) -> None:
        """End a step of an edit."""
        with self._changed:
            self._edits -= 1
            self._changed.notify_all()

    def wait(self, most_s: float) -> None:
        """Wait while an edit has precedence, for at most `most_s`."""
        give_until = time.monotonic() + min(most_s, self._give_s)  # guard lease-yield-limit
        with self._changed:
            # guard backfill-yield-limit
            while self._edits and (wait_s := min(self._until, give_until) - time.monotonic()) > 0:
                self._changed.wait(wait_s)


@dataclass(frozen=True, slots=True)
class GatePass:
    """The gate as one claim passes it: an edit has precedence, a batch yields."""

    gate: PriorityGate
    edit: bool

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Context of a step. An edit has precedence during it."""
        if not self.edit:
            yield
            return
        self.gate.enter()
        try:
            yield
        finally:
            self.gate.leave()

    def yield_to_edits(self, left_s: float) -> None:
        """Yield to edits before a request. Uses at most a small part of `left_s`, the time that the claim still has."""
        if not self.edit:
            self.gate.wait(left_s / GIVE_SHARE)
