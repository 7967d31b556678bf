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
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from reindexer.core.lanes import Lane
from reindexer.core.per_process import PerProcess
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


class _State:
    """What one process works on, and how quick it is."""

    def __init__(self, gate: Callable[[], PriorityGate]) -> None:
        self.changed = threading.Condition()
        self.helpers: Counter[str] = Counter()
        self.own = threading.local()
        """A pool thread's `lane`, while the thread is counted."""
        self.took_s: dict[str, float] = {}
        self.provider_s: dict[str, float] = {}
        self.noted_at: dict[str, float] = {}
        self.waiting: Counter[str] = Counter()
        self.edited_at = -math.inf
        self.at_work = 0
        self.alone = False
        self.gate = gate()
        self.ending = False


class WorkerPool:
    """The worker pool of one process; each fork starts anew.

    `most`: maximum pool threads per lane. A backfill gets twice as many while there are no edits and its provider is
    far away. 0: no pool threads, each task does its own work.
    """

    def __init__(self, most: int = 0, gate: Callable[[], PriorityGate] = PriorityGate) -> None:
        self._most = most
        self._state = PerProcess(partial(_State, gate))

    def submit(self, lane: Lane, work: Callable[[], object]) -> bool:
        """Run `work` in a pool thread. Returns False if the lane has its maximum of pool threads, or the process is
        ending.

        `work` must not raise.
        """
        now = self._state.get()
        with now.changed:
            if now.ending or now.helpers[lane] >= self._max_threads(lane):
                return False
            now.helpers[lane] += 1
        threading.Thread(target=self._run, args=[lane, work], name=f"{lane} pool thread").start()
        return True

    def _run(self, lane: Lane, work: Callable[[], object]) -> None:
        now = self._state.get()
        now.own.lane = lane
        try:
            work()
        finally:
            with now.changed:
                self._leave()

    def _leave(self) -> None:
        now = self._state.get()
        if now.own.lane is not None:
            now.helpers[now.own.lane] -= 1
            now.own.lane = None
            now.changed.notify_all()

    def _max_threads(self, lane: Lane) -> int:
        now = self._state.get()
        far = FAR_S < now.provider_s.get(lane, math.inf) < BUSY_S  # guard pool-thread-busy-provider-limit
        # guard pool-thread-backfill-extra
        return 2 * self._most if far and lane != Lane.LIVE and not self._edits else self._most

    @property
    def _edits(self) -> bool:
        now = self._state.get()
        return time.monotonic() - now.edited_at < EDITS_S

    def is_quick(self, lane: Lane) -> bool:
        """Whether the lane's last claim was recent and quick. False until there was one."""
        now = self._state.get()
        is_known = time.monotonic() - now.noted_at.get(lane, -math.inf) < QUICK_FOR_S
        return is_known and now.took_s.get(lane, math.inf) < QUICK_S

    def most(self, lane: Lane, batch_size: int) -> int:
        """Return how many items of the lane to claim.

        While there are edits, a backfill claims half a batch, because an edit of an item in work waits until that
        item's batch is settled. A backfill claims full batches if the provider is slow, to send it few requests.
        """
        now = self._state.get()
        quick = now.provider_s.get(lane, math.inf) < QUICK_S
        # guard edit-halved-backfill-batch
        return math.ceil(batch_size / 2) if quick and self._edits and lane != Lane.LIVE else batch_size

    def note(self, lane: Lane, took_s: float, provider_s: float) -> None:
        """Record that a claim of the lane took `took_s`, of which the provider took `provider_s`."""
        now = self._state.get()
        now.took_s[lane], now.provider_s[lane], now.noted_at[lane] = took_s, provider_s, time.monotonic()
        if lane == Lane.LIVE:
            now.edited_at = time.monotonic()

    def may_wait(self, lane: Lane) -> bool:
        """Whether one more claim of the lane may wait for the provider.

        One pool thread stays free for work that needs no provider. Edits that find no free thread are worked on by
        their tasks.
        """
        now = self._state.get()
        return lane == Lane.LIVE or now.waiting[lane] < max(1, self._max_threads(lane) - 1)

    @contextmanager
    def waiting(self, lane: Lane, *, waits: bool) -> Iterator[None]:
        """Context of the work on one claim. `waits`: it may wait for the provider."""
        now = self._state.get()
        with now.changed:
            now.waiting[lane] += waits
        try:
            yield
        finally:
            with now.changed:
                now.waiting[lane] -= waits

    def gate(self, lane: Lane) -> GatePass:
        """Return the priority gate as a claim of this lane passes it."""
        now = self._state.get()
        return GatePass(now.gate, edit=lane == Lane.LIVE)

    def goes_on(self) -> bool:
        """Whether a loop over batches takes another one. False when the process ends, or in a surplus pool thread."""
        now = self._state.get()
        lane = getattr(now.own, "lane", None)
        with now.changed:
            if lane is not None and now.helpers[lane] > self._max_threads(lane):
                # guard pool-thread-surplus-exit
                self._leave()  # at once, or all of them would go
                return False
        return not now.ending

    @property
    def has_threads(self) -> bool:
        """Whether the process may have pool threads."""
        return self._most > 0

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Context of ordinary work. Waits while another thread works on a suspect."""
        now = self._state.get()
        with now.changed:
            now.changed.wait_for(lambda: not now.alone)
            now.at_work += 1
        try:
            yield
        finally:
            with now.changed:
                now.at_work -= 1
                now.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Context of the work on a suspect. Waits until nothing else is in work, and blocks other work from
        starting."""
        now = self._state.get()
        with now.changed:
            now.changed.wait_for(lambda: not now.alone)
            now.alone = True
            now.changed.wait_for(lambda: not now.at_work)  # guard suspect-item-isolation
        try:
            yield
        finally:
            with now.changed:
                now.alone = False
                now.changed.notify_all()

    def close(self) -> None:
        """Start nothing more, and wait for the work in progress."""
        now = self._state.get()
        with now.changed:
            now.ending = True
            now.changed.wait_for(lambda: not now.helpers.total())
