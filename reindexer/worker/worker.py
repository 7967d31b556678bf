"""What is next: a worker claims batch after batch, works on each, and learns from it what to claim next."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from reindexer.core.lanes import LANES, REQUEST_LANE, Lane
from reindexer.queue.claim import Claim, LaneWatermark, claim_batch, claim_item
from reindexer.queue.lease import Deadline
from reindexer.worker.batch import Batch
from reindexer.worker.claim_state import SOURCE_WAIT_S
from reindexer.worker.dependencies import Dependencies
from reindexer.worker.results import report_unreported
from reindexer.worker.traced import traced

LANE_BUDGET_S = 1.0
"""How long a thread that takes messages works on one of them, or for one batch. Then the next message has its turn."""
TURN_WAIT_S = 5.0
"""Maximum time that a process claims no marked item of a lane after the rate limiter denied one a slot."""
TIGHT_S = 10.0
"""For this long after a request had to wait for the rate limiter, others are expected to wait too."""
LOOK_S = 0.25
"""Interval at which the process looks for other items meanwhile."""


class Work(Protocol):
    """`Worker.run_lane`, as the edge of the program calls it: it logs what fails, and raises nothing."""

    def __call__(self, lane: Lane, *, budget_s: float = math.inf, waits: bool = True) -> object:
        """See `Worker.run_lane`."""


@dataclass(slots=True)
class Worker(Dependencies):
    """A worker process. Holds no state of items; any number of threads may use one worker."""

    _watermarks: Mapping[Lane, LaneWatermark] = field(default_factory=lambda: {lane: LaneWatermark() for lane in LANES})
    _turn_waits_until: dict[str, float] = field(default_factory=dict)
    """By lane, monotonic. Until then the rate limiter has no slot for the lane: a claim would only be returned."""
    _tight_until: dict[str, float] = field(default_factory=dict)
    """By lane, monotonic. Until then requests are expected to wait for the rate limiter."""
    _leaves: set[str] = field(default_factory=set)
    """Lanes in which marked items were seen and left."""
    _left_to_others: dict[tuple[str, int], float] = field(default_factory=dict)
    """Generations, by source and number, that other workers may be able to work on and this one is not, and when to
    check again (monotonic)."""

    def close(self) -> None:
        """Finish the work in progress, account it, write the counters, and close connections."""
        self.pool.close()
        self.purse.close()
        self.counters.close()
        self.postgres.close()

    def accept(self, lane: Lane, work: Work, *, meanwhile: Callable[[], None]) -> None:
        """Have somebody work on what a message says is ready: a pool thread, or the caller's, or nobody.

        If all pool threads of the lane are busy, they look for more work themselves. Then the caller's thread works
        only if the message is about edits, or if other threads take the messages. While edits are quick, it works on
        them without the pool. Work that may wait for the provider goes to the pool: a thread that takes messages never
        waits. `work` is `run_lane`, and raises nothing. `meanwhile` is called once no quick edit waits any more.
        """
        edits = lane == Lane.LIVE
        quick = edits and self.pool.is_quick(lane)
        if quick:
            work(lane, budget_s=LANE_BUDGET_S, waits=False)
        meanwhile()
        # guard pool-thread-provider-wait-handoff
        if (quick and not self.leaves(lane)) or self.pool.submit(lane, partial(work, lane)):
            return
        if edits or threading.current_thread() is not threading.main_thread():  # guard backfill-off-main-thread
            work(lane, budget_s=LANE_BUDGET_S, waits=not self.pool.has_threads)

    def run_lane(self, lane: Lane, *, budget_s: float = math.inf, waits: bool = True) -> int:
        """Work on batches of a lane until none is ready or `budget_s` is used up. Returns the number of items settled.

        Lanes of higher priority go first, checked before every batch. An edit made behind a backfill therefore waits
        for the batches in work, not for the time budgets of the messages queued before its own. `waits` false: the
        caller has more to do than wait for a provider, and leaves marked items to others.
        """
        until, items = time.monotonic() + budget_s, 0
        lanes = LANES[: LANES.index(lane) + 1]  # guard edit-lane-first
        while (settled := self._take(partial(self._claim_first, lanes, waits=waits))) is not None:
            items += settled
            if time.monotonic() >= until or not self.pool.goes_on():  # guard pool-thread-worker-end-stop
                return items
        if waits and (waits_s := self._waits_s(lane)) > 0:  # an immediate return would bring another message at once
            time.sleep(min(waits_s, LOOK_S))
        return items

    def leaves(self, lane: Lane) -> bool:
        """Whether the lane has marked items that nothing has taken, as far as this process knows."""
        return lane in self._leaves

    def _take(self, claiming: Callable[[], Claim | None]) -> int | None:
        """Claim and work. Returns the number of items settled, or None if nothing could be claimed."""
        with self.pool.beside_others():
            deadline = Deadline.after(self.limits.lease_s)
            claim = claiming()
            if claim is None:
                return None
            if not claim.suspect:
                return self._work(claim, deadline)
        with self.pool.alone():
            return self._work(claim, deadline)

    def _claim_first(self, lanes: Sequence[Lane], *, waits: bool) -> Claim | None:
        """Claim from the first of the lanes in which something is ready."""
        return next((claim for lane in lanes if (claim := self.claim(lane, waits=waits))), None)

    def _waits_s(self, lane: Lane) -> float:
        return max(0.0, self._turn_waits_until.get(lane, 0.0) - time.monotonic())

    def claim(self, lane: Lane, *, waits: bool = True) -> Claim | None:
        """Claim the next batch of a lane. None if nothing is ready. `waits` false: unmarked items only."""
        most = self.pool.most(lane, self.limits.batch_size)
        embeds = waits and not self._waits_s(lane) and self.pool.may_wait(lane)
        tight = time.monotonic() < self._tight_until.get(lane, 0.0)
        with self.pool.gate(lane).taken(), self.postgres.connection() as connection:  # guard edit-claim-priority
            claim = claim_batch(
                connection, lane, most, self.limits.lease_s, self._others(),
                # guard claim-scan-watermark
                watermark=self._watermarks.get(lane),
                embeds=embeds, tight=tight,
            )  # fmt: skip
        if claim is None and embeds:
            self._leaves.discard(lane)
        elif claim is not None and claim.beside:
            self._leaves.add(lane)
        return claim

    def _others(self) -> list[tuple[str, int]]:
        now = time.monotonic()
        return [generation for generation, until in list(self._left_to_others.items()) if until > now]

    def run_item(self, source: str, item_id: str, *, alone: bool = False) -> bool:
        """Work on one item, and on due neighbours in the same claim. Returns False if it could not be claimed."""
        batch, watermark = 1 if alone else self.limits.batch_size, self._watermarks[REQUEST_LANE]

        def claiming() -> Claim | None:
            with self.postgres.connection() as connection:
                return claim_item(connection, source, item_id, batch, self.limits.lease_s, watermark=watermark)

        return self._take(claiming) is not None

    def _work(self, claim: Claim, deadline: Deadline) -> int:
        took_s = Deadline.after(self.limits.lease_s).at - deadline.at
        with traced(claim, took_s) as told:
            batch = Batch(self, claim, deadline, told.steps)
            told.outcomes = batch.outcomes
            return self._settle(claim, batch)

    def _settle(self, claim: Claim, batch: Batch) -> int:
        began = time.monotonic()
        batch.work()
        if batch.is_tight:
            self._tight_until[claim.lane] = time.monotonic() + TIGHT_S
        if batch.leaves_source:  # before its items are free for the next claim
            self._left_to_others[claim.source, claim.generation] = time.monotonic() + SOURCE_WAIT_S
        settled = batch.settle()
        if claim.marked and (waits := batch.reservation_waits_s):
            # guard rate-limit-distant-reservation-pause
            self._turn_waits_until[claim.lane] = time.monotonic() + min(*waits, TURN_WAIT_S)
        if batch.leaves_marked:
            self._leaves.add(claim.lane)
        if not claim.marked:
            self.pool.note(claim.lane, time.monotonic() - began, batch.provider_s)
        return len(settled.item_ids)

    def report_unreported(self) -> None:
        """Store outcomes of reindex requests that nobody has reported yet."""
        report_unreported(self.postgres, self.broker)
