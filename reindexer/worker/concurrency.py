"""Crew: what one process works on at once, besides what its own tasks do.

A process that waits for the provider can do more meanwhile, and a process that works off a backfill must hear of edits.
So a message's work is done by a helper, a thread that goes on until nothing of its lane is ready; the task that brought
the message ends at once. A message that finds all helpers of its lane at work means nothing: they look again anyway.
Where claims are quick, the task works on edits itself.

Should one item kill the process, what is in work beside it is lost as well. So a suspect is worked on with nothing
beside it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reindexer.core.items import LANES
from reindexer.worker.priority_gate import Road, Way

QUICK_S = 0.1
"""Where a claim takes no longer, the next one may as well wait for it: fewer and larger batches are less work."""

FAR_S = 0.15
"""A provider that takes longer is far away, and can do more meanwhile;"""
BUSY_S = 3.0
"""one that takes longer than this is busy, and more would only wait in it."""

EDITS_S = 10.0
"""After an edit the next one is expected for so long."""

QUICK_FOR_S = 10.0
"""For so long a claim that was quick says that the next one will be."""


class Crew:
    """Of one process, and of each fork of it anew. `most`: helpers of a lane, and twice as many for a backfill without
    edits whose provider is far away; 0: none, each task does its own work."""

    def __init__(self, most: int = 0, road: Callable[[], Road] = Road) -> None:
        self._most = most
        self._make_road = road
        self._begin()

    def help(self, lane: str, work: Callable[[], object]) -> bool:
        """Do it in a thread of its own; False if so many helpers of the lane are at work, or we are to end.

        `work` must raise nothing.
        """
        self._begin_in_fork()
        with self._changed:
            if self._ending or self._helpers[lane] >= self._most_helpers(lane):
                return False
            self._helpers[lane] += 1
        threading.Thread(target=self._run, args=[lane, work], name=f"{lane} helper").start()
        return True

    def _run(self, lane: str, work: Callable[[], object]) -> None:
        self._own.lane = lane
        try:
            work()
        finally:
            with self._changed:
                self._leave()

    def _leave(self) -> None:
        if self._own.lane is not None:
            self._helpers[self._own.lane] -= 1
            self._own.lane = None
            self._changed.notify_all()

    def _most_helpers(self, lane: str) -> int:
        far = FAR_S < self._provider_s.get(lane, math.inf) < BUSY_S  # guard helper-busy-provider-limit
        # guard helper-backfill-extra
        return 2 * self._most if far and lane != LANES[0] and not self._edits else self._most

    @property
    def _edits(self) -> bool:
        return time.monotonic() - self._edited_at < EDITS_S

    def is_quick(self, lane: str) -> bool:
        """Whether the last claim of the lane was, lately. Until there was one, it is not known to be."""
        self._begin_in_fork()
        is_known = time.monotonic() - self._noted_at.get(lane, -math.inf) < QUICK_FOR_S
        return is_known and self._took_s.get(lane, math.inf) < QUICK_S

    def most(self, lane: str, batch_size: int) -> int:
        """How many items of the lane to claim.

        Half a batch of a backfill while there are edits, as who edits an item in work waits until its batch is settled;
        but not where the provider takes its time, which is to be asked seldom.
        """
        self._begin_in_fork()
        quick = self._provider_s.get(lane, math.inf) < QUICK_S
        # guard edit-halved-backfill-batch
        return math.ceil(batch_size / 2) if quick and self._edits and lane != LANES[0] else batch_size

    def note(self, lane: str, took_s: float, provider_s: float) -> None:
        """A claim of the lane took so long, and so much of it the provider."""
        self._took_s[lane], self._provider_s[lane], self._noted_at[lane] = took_s, provider_s, time.monotonic()
        if lane == LANES[0]:
            self._edited_at = time.monotonic()

    def may_wait(self, lane: str) -> bool:
        """Whether one more claim of the lane may wait for the provider.

        One helper is left for what needs none; edits that find none are worked on by their tasks.
        """
        self._begin_in_fork()
        return lane == LANES[0] or self._waiting[lane] < max(1, self._most_helpers(lane) - 1)

    @contextmanager
    def waiting(self, lane: str, *, waits: bool) -> Iterator[None]:
        """Around the work on a claim, which may wait for the provider or not."""
        with self._changed:
            self._waiting[lane] += waits
        try:
            yield
        finally:
            with self._changed:
                self._waiting[lane] -= waits

    def way(self, lane: str) -> Way:
        """For a claim of the lane."""
        self._begin_in_fork()
        return Way(self._road, edit=lane == LANES[0])

    def goes_on(self) -> bool:
        """Whether who works on batch after batch does another: not when the process ends, nor a helper of too many."""
        lane = getattr(self._own, "lane", None)
        with self._changed:
            if lane is not None and self._helpers[lane] > self._most_helpers(lane):
                # guard helper-surplus-exit
                self._leave()  # at once, or all of them would go
                return False
        return not self._ending

    @property
    def has_helpers(self) -> bool:
        """Whether there can be any."""
        return self._most > 0

    @property
    def is_kept_clear(self) -> bool:
        """Somebody works on a suspect, or waits to."""
        return self._alone

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Around ordinary work. Waits while somebody works on a suspect."""
        self._begin_in_fork()
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around the work on a suspect. Waits until nothing else is in work, and keeps others from beginning."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: not self._at_work)  # guard suspect-item-isolation
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def close(self) -> None:
        """Begin nothing more, and wait for what is in work."""
        self._begin_in_fork()
        with self._changed:
            self._ending = True
            self._changed.wait_for(lambda: not self._helpers.total())

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._helpers: Counter[str] = Counter()
        self._own = threading.local()
        """A helper's `lane`, while it is counted."""
        self._took_s: dict[str, float] = {}
        self._provider_s: dict[str, float] = {}
        self._noted_at: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()
        self._edited_at = -math.inf
        self._at_work = 0
        self._alone = False
        self._road = self._make_road()
        self._ending = False

    def _begin_in_fork(self) -> None:
        if self._pid != os.getpid():
            self._begin()
