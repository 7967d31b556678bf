"""Worker pool: what one process works on at once, besides its Celery tasks.

A process that waits for the provider can work on other claims meanwhile, and a process that works off a backfill must
notice edits. A pool thread therefore does the work of a message: it goes on until nothing of its lane is ready, while
the task that brought the message ends at once. A message that finds all pool threads of its lane busy can be dropped,
because they look for more work anyway. Where claims are quick, the task works on edits itself.

An item that kills the process takes concurrent batches with it. A suspect (an item whose earlier claim expired) is
therefore processed with nothing beside it.
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
from reindexer.worker.priority_gate import GatePass, PriorityGate

QUICK_S = 0.1
"""A claim that takes no longer than this delays the next one: fewer and larger batches are less work."""

FAR_S = 0.15
"""A provider that takes longer than this is far away, and can serve more requests meanwhile."""
BUSY_S = 3.0
"""A provider that takes longer than this is busy: more requests would only queue there."""

EDITS_S = 10.0
"""For this long after an edit another edit is expected."""

QUICK_FOR_S = 10.0
"""For this long a quick claim predicts that the next one is quick."""


class WorkerPool:
    """The worker pool of one process; each fork starts anew.

    `most`: maximum pool threads per lane. A backfill gets twice as many while there are no edits and its provider is
    far away. 0: no pool threads, each task does its own work.
    """

    def __init__(self, most: int = 0, gate: Callable[[], PriorityGate] = PriorityGate) -> None:
        self._most = most
        self._make_gate = gate
        self._begin()

    def submit(self, lane: str, work: Callable[[], object]) -> bool:
        """Run `work` in a pool thread. Returns False if the lane has its maximum of pool threads, or the process is
        ending.

        `work` must not raise.
        """
        self._begin_in_fork()
        with self._changed:
            if self._ending or self._threads[lane] >= self._max_threads(lane):
                return False
            self._threads[lane] += 1
        threading.Thread(target=self._run, args=[lane, work], name=f"{lane} pool thread").start()
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
            self._threads[self._own.lane] -= 1
            self._own.lane = None
            self._changed.notify_all()

    def _max_threads(self, lane: str) -> int:
        far = FAR_S < self._provider_s.get(lane, math.inf) < BUSY_S  # guard pool-thread-busy-provider-limit
        # guard pool-thread-backfill-extra
        return 2 * self._most if far and lane != LANES[0] and not self._edits else self._most

    @property
    def _edits(self) -> bool:
        return time.monotonic() - self._edited_at < EDITS_S

    def is_quick(self, lane: str) -> bool:
        """Whether the lane's last claim was recent and quick. False until there was one."""
        self._begin_in_fork()
        is_known = time.monotonic() - self._noted_at.get(lane, -math.inf) < QUICK_FOR_S
        return is_known and self._took_s.get(lane, math.inf) < QUICK_S

    def most(self, lane: str, batch_size: int) -> int:
        """Return how many items of the lane to claim.

        While there are edits, a backfill claims half a batch, because an edit of an item in work waits until that
        item's batch is settled. A backfill claims full batches if the provider is slow, to send it few requests.
        """
        self._begin_in_fork()
        quick = self._provider_s.get(lane, math.inf) < QUICK_S
        # guard edit-halved-backfill-batch
        return math.ceil(batch_size / 2) if quick and self._edits and lane != LANES[0] else batch_size

    def note(self, lane: str, took_s: float, provider_s: float) -> None:
        """Record that a claim of the lane took `took_s`, of which the provider took `provider_s`."""
        self._took_s[lane], self._provider_s[lane], self._noted_at[lane] = took_s, provider_s, time.monotonic()
        if lane == LANES[0]:
            self._edited_at = time.monotonic()

    def may_wait(self, lane: str) -> bool:
        """Whether one more claim of the lane may wait for the provider.

        One pool thread stays free for work that needs no provider. Edits that find no free thread are worked on by
        their tasks.
        """
        self._begin_in_fork()
        return lane == LANES[0] or self._waiting[lane] < max(1, self._max_threads(lane) - 1)

    @contextmanager
    def waiting(self, lane: str, *, waits: bool) -> Iterator[None]:
        """Context of the work on one claim. `waits`: it may wait for the provider."""
        with self._changed:
            self._waiting[lane] += waits
        try:
            yield
        finally:
            with self._changed:
                self._waiting[lane] -= waits

    def gate(self, lane: str) -> GatePass:
        """Return the priority gate as a claim of this lane passes it."""
        self._begin_in_fork()
        return GatePass(self._gate, edit=lane == LANES[0])

    def goes_on(self) -> bool:
        """Whether a loop over batches takes another one. False when the process ends, or in a surplus pool thread."""
        lane = getattr(self._own, "lane", None)
        with self._changed:
            if lane is not None and self._threads[lane] > self._max_threads(lane):
                # guard pool-thread-surplus-exit
                self._leave()  # at once, or all of them would go
                return False
        return not self._ending

    @property
    def has_threads(self) -> bool:
        """Whether the process may have pool threads."""
        return self._most > 0

    @property
    def is_kept_clear(self) -> bool:
        """Whether a thread works on a suspect, or waits to."""
        return self._alone

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Context of ordinary work. Waits while another thread works on a suspect."""
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
        """Context of the work on a suspect. Waits until nothing else is in work, and blocks other work from
        starting."""
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
        """Start nothing more, and wait for the work in progress."""
        self._begin_in_fork()
        with self._changed:
            self._ending = True
            self._changed.wait_for(lambda: not self._threads.total())

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._threads: Counter[str] = Counter()
        self._own = threading.local()
        """A pool thread's `lane`, while the thread is counted."""
        self._took_s: dict[str, float] = {}
        self._provider_s: dict[str, float] = {}
        self._noted_at: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()
        self._edited_at = -math.inf
        self._at_work = 0
        self._alone = False
        self._gate = self._make_gate()
        self._ending = False

    def _begin_in_fork(self) -> None:
        if self._pid != os.getpid():
            self._begin()
