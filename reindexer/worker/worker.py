"""Work: take claimed items, make Qdrant equal to their rows, and settle.

No transaction is open between claim and settle. A process may die at any line: its items come back in doubt when the
lease expires. It may also stop for longer than its lease and then go on. Its token is then lower than its successor's,
so Qdrant refuses its writes, and it settles nothing.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from reindexer.backfills.pager import rebuild_if_lost
from reindexer.core.breaker import BreakerPolicy
from reindexer.core.errors import DependencyUnavailable, NotThisProcess, PermanentError, SourceError, TransientError
from reindexer.core.items import LANES, REQUEST_LANE, Row
from reindexer.core.owner import Owner
from reindexer.core.plan import Skip, plan
from reindexer.core.retry import RetryPolicy
from reindexer.core.source import Source
from reindexer.embedding.rate_limit import PATIENCE_S, Throttle, Unlimited
from reindexer.embedding.refusals import Refusals
from reindexer.index.ownership import identity
from reindexer.monitoring.instrument import count_claim, count_outcomes
from reindexer.monitoring.metrics import LEASES_EXPIRED
from reindexer.monitoring.metrics_store import Counters
from reindexer.ports import AccountOf, Broker, Collection, Embedder, EmbedderOf, Index, Jitter, RateLimiterOf
from reindexer.postgres.catalog import payload_columns
from reindexer.postgres.connect import Postgres
from reindexer.queue import requests
from reindexer.queue.breaker import HealthRecorder
from reindexer.queue.claim import Claim, LaneWatermark, claim_batch, claim_item
from reindexer.queue.lease import Deadline, LeaseExpired
from reindexer.queue.settle import Answer, Postponed
from reindexer.sources.embedder_record import record, require_same
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.keys import key_types_among
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source_and_columns
from reindexer.worker.apply import Delivery, Timeouts
from reindexer.worker.claim_state import SOURCE_WAIT_S, Attempt
from reindexer.worker.concurrency import WorkerPool
from reindexer.worker.finish import settle_with_retry
from reindexer.worker.priority_gate import GatePass

log = structlog.get_logger(__name__)

TURN_WAIT_S = 5.0
"""Maximum time that a process claims no marked item of a lane after the rate limiter denied one a slot."""
TIGHT_S = 10.0
"""For this long after a request had to wait for the rate limiter, others are expected to wait too."""
LOOK_S = 0.25
"""Interval at which the process looks for other items meanwhile."""

MAX_FAILED_LINES = 5
"""Maximum failed items of one claim that get a log line of their own. The ledger names all."""


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """How much one claim takes and how long it may hold it."""

    batch_size: int = 256
    lease_s: float = 60.0
    provider_timeout_s: float = 20.0
    index_timeout_s: float = 10.0

    @property
    def keep_for_writing_s(self) -> float:
        """Embedding stops this long before the end of a lease."""
        return min(self.index_timeout_s, self.lease_s / 6)


@dataclass(slots=True)
class Worker:
    """The dependencies of a worker process. Holds no state of items; any number of threads may use one worker."""

    postgres: Postgres
    embedder_of: EmbedderOf
    index: Index
    broker: Broker | None
    """Stores results under the task ids of reindex requests. None: results are not stored."""
    limits: WorkLimits
    policy: RetryPolicy
    breaker: BreakerPolicy
    jitter: Jitter
    counters: Counters
    pool: WorkerPool = field(default_factory=WorkerPool)
    rate_limiter_of: RateLimiterOf = lambda _: Unlimited()
    account_of: AccountOf = lambda _: ""
    instance: str | None = None
    """Name of this database, if it replaces the identity that the server reports."""
    _prepared: dict[Collection, float] = field(default_factory=dict)
    """Collections that were seen to exist, and when to check again (monotonic)."""
    _watermarks: Mapping[str, LaneWatermark] = field(default_factory=lambda: {lane: LaneWatermark() for lane in LANES})
    _turn_waits_until: dict[str, float] = field(default_factory=dict)
    """By lane, monotonic. Until then the rate limiter has no slot for the lane: a claim would only be returned."""
    _tight_until: dict[str, float] = field(default_factory=dict)
    """By lane, monotonic. Until then requests are expected to wait for the rate limiter."""
    _leaves: set[str] = field(default_factory=set)
    """Lanes in which marked items were seen and left."""
    _left_to_others: dict[str, float] = field(default_factory=dict)
    """Sources that other workers may be able to work on and this one is not, and when to check again (monotonic)."""
    _refusals: Refusals = field(default_factory=Refusals)

    def close(self) -> None:
        """Finish the work in progress, write the counters, and close connections."""
        self.pool.close()
        self.counters.close()
        self.postgres.close()

    def run_lane(self, lane: str, *, budget_s: float = math.inf, waits: bool = True) -> int:
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

    def leaves(self, lane: str) -> bool:
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

    def _claim_first(self, lanes: Sequence[str], *, waits: bool) -> Claim | None:
        """Claim from the first of the lanes in which something is ready."""
        return next((claim for lane in lanes if (claim := self.claim(lane, waits=waits))), None)

    def _waits_s(self, lane: str) -> float:
        return max(0.0, self._turn_waits_until.get(lane, 0.0) - time.monotonic())

    def claim(self, lane: str, *, waits: bool = True) -> Claim | None:
        """Claim the next batch of a lane. None if nothing is ready. `waits` false: unmarked items only."""
        most = self.pool.most(lane, self.limits.batch_size)
        embeds = waits and not self._waits_s(lane) and self.pool.may_wait(lane)
        tight = time.monotonic() < self._tight_until.get(lane, 0.0)
        with self.pool.gate(lane).taken(), self.postgres.connection() as connection:  # guard edit-claim-priority
            claim = claim_batch(
                connection, lane, most, self.limits.lease_s, self._others_sources(),
                # guard claim-scan-watermark
                watermark=self._watermarks.get(lane),
                embeds=embeds, tight=tight,
            )  # fmt: skip
        if claim is None and embeds:
            self._leaves.discard(lane)
        elif claim is not None and claim.beside:
            self._leaves.add(lane)
        return claim

    def _others_sources(self) -> list[str]:
        now = time.monotonic()
        return [source for source, until in list(self._left_to_others.items()) if until > now]

    def run_item(self, source: str, item_id: str, *, alone: bool = False) -> bool:
        """Work on one item, and on due neighbours in the same claim. Returns False if it could not be claimed."""
        batch, watermark = 1 if alone else self.limits.batch_size, self._watermarks[REQUEST_LANE]

        def claiming() -> Claim | None:
            with self.postgres.connection() as connection:
                return claim_item(connection, source, item_id, batch, self.limits.lease_s, watermark=watermark)

        return self._take(claiming) is not None

    def _work(self, claim: Claim, deadline: Deadline) -> int:
        began = time.monotonic()
        count_claim(self.counters, claim)
        attempt, health = Attempt(claim, self.policy, self.jitter, self.limits.lease_s), HealthRecorder()
        gate = self.pool.gate(claim.lane)
        try:
            with gate.taken(), self.pool.waiting(claim.lane, waits=claim.marked):  # guard edit-work-priority
                self._attempt(claim, attempt, health, gate, deadline)
        except LeaseExpired:
            # The next claim finds out what was written. This process holds nothing any more.
            self.counters.add(LEASES_EXPIRED)
            log.warning("lease_expired", source=claim.source, token=claim.token, items=len(attempt.open))
        except SourceError as exc:
            self._source_fails(claim, attempt, exc)
        except TransientError as exc:
            # Postgres, before anything was written. Errors of other dependencies are handled where they are asked.
            log.warning("postgres_failed", source=claim.source, error=str(exc))
            for item in list(attempt.open):
                wait_s = self.policy.wait_s(1, self.jitter())
                attempt.postpone(Postponed(item, wait_s, str(exc), counts=False, cause="postgres"))
        if attempt.problem:
            log.error("source_failed", source=claim.source, error=attempt.problem)
        settled = settle_with_retry(self.postgres, claim, attempt, health, self.breaker, deadline)
        count_outcomes(self.counters, claim, attempt.finished, attempt.postponed, settled)
        self._tell(settled.answers)
        if claim.marked and (waits := [p.wait_s for p in attempt.postponed if p.cause == "rate_limited"]):
            # guard rate-limit-distant-reservation-pause
            self._turn_waits_until[claim.lane] = time.monotonic() + min(*waits, TURN_WAIT_S)
        if any(p.marks for p in attempt.postponed):
            self._leaves.add(claim.lane)
        failed = [f for f in attempt.finished if f.outcome == "FAILED"]
        for each in failed[:MAX_FAILED_LINES]:
            log.warning("item_failed", source=claim.source, item_id=each.item.item_id, error=each.error)
        if not claim.marked:
            self.pool.note(claim.lane, time.monotonic() - began, health.asked_s.get("provider", 0.0))
        log.info(
            "settled",
            source=claim.source,
            lane=claim.lane,
            items=len(settled.item_ids),
            failed=len(failed),
            postponed=len(attempt.postponed),
            oldest_s=round(max((age_s for age_s in settled.ages_s if age_s is not None), default=0.0), 3),
        )
        return len(settled.item_ids)

    def _attempt(
        self, claim: Claim, attempt: Attempt, health: HealthRecorder, gate: GatePass, deadline: Deadline
    ) -> None:
        for item in list(attempt.open):
            if self.policy.died_too_often(item.losses):  # guard suspect-item-loss-limit
                wait_s = self.policy.healing_wait_s(item.healed)  # its worker may have died of something else each time
                attempt.fail(item, "its worker died each time it was tried", certain=False, heal_after_s=wait_s)
        source, rows = self._read(claim, attempt)
        embedder = self.embedder_of(source)
        require_same(source.name, claim.embedder, embedder.fingerprint)  # guard claim-embedder-check
        collection = Collection(
            source.name, source.collection(claim.generation), source.alias, source.profile, claim.embedder
        )
        anew = "qdrant" in claim.failing or bool(claim.problem) or claim.embedder is None  # guard claim-qdrant-recheck
        try:
            self._prepare(source, collection, embedder, health, anew=anew)
        except DependencyUnavailable as exc:
            for item in list(attempt.open):
                attempt.fails(item, exc, certain=True)
            return
        health.account = self.account_of(source)
        spec = embedding_spec_of(source, embedder)
        steps = [plan(item, rows.get(item.item_id), spec) for item in attempt.open]
        for step in steps:
            if isinstance(step, Skip):
                attempt.complete(step)
        delivery = Delivery(
            self.index, embedder, collection, claim.token, attempt, health, gate, deadline,
            Timeouts(self.limits.provider_timeout_s, self.limits.index_timeout_s, self.limits.keep_for_writing_s),
            Throttle(
                self.rate_limiter_of(source), self.counters, "items", live=claim.lane == "live",
                patience_s=PATIENCE_S if claim.marked else 0.0,  # guard rate-limit-reservation-patience
            ),
            self._refusals,
            may_ask="provider" not in claim.left_alone,  # guard breaker-non-probe-silence
        )  # fmt: skip
        try:
            delivery.bring([step for step in steps if not isinstance(step, Skip)])
        finally:
            if delivery.failed:
                self._prepared.pop(collection, None)
            if delivery.pace.is_tight:
                self._tight_until[claim.lane] = time.monotonic() + TIGHT_S

    def _prepare(
        self, source: Source, collection: Collection, embedder: Embedder, health: HealthRecorder, *, anew: bool
    ) -> None:
        """Prepare the collection in Qdrant, and rebuild the source if the collection was lost.

        `anew`: ask Qdrant again before paying for vectors, because it failed or refused when last asked, or because the
        source has no embedder on record yet. In the latter case the embedder is recorded.
        """
        now = time.monotonic()
        if not anew and self._prepared.get(collection, 0.0) > now:
            return
        with self.postgres.connection() as connection:
            owner = Owner(identity(connection, self.instance), embedder.fingerprint)
            columns = payload_columns(connection, source)
        try:
            with health.observe("qdrant"):
                collection_id = self.index.prepare(collection, embedder.dimensions, owner, columns)
                if anew:  # guard refusal-qdrant-before-embed
                    self.index.touch(collection, embedder.dimensions, self.limits.index_timeout_s)
        except DependencyUnavailable:
            raise
        except (TransientError, PermanentError) as exc:
            raise SourceError(str(exc)) from exc  # no item is to blame, and nothing was written
        with self.postgres.connection() as connection:
            if collection.embedder is None:
                record(connection, source.name, embedder.fingerprint)
            if rebuild_if_lost(connection, collection.source, collection_id):  # guard lost-collection-rebuild
                log.error("collection_lost", source=collection.source, collection=collection.name)
        self._prepared[collection] = now + 30.0

    def _read(self, claim: Claim, attempt: Attempt) -> tuple[Source, Mapping[str, Row]]:
        """Return the source as it is now, and rows by id.

        An id that can't be a key of the source has no row. A row that can't be read fails alone.
        """
        items = {item.item_id: item for item in attempt.open}
        with self.postgres.connection() as connection:
            source, columns = find_source_and_columns(connection, claim.source)
            found = find_rows(connection, source, list(items), key_types_among(source, columns))
        for item_id, why in found.unreadable.items():
            wait_s = self.policy.healing_wait_s(items[item_id].healed) if why.may_pass else None
            attempt.fail(items[item_id], why.reason, certain=False, heal_after_s=wait_s)
        for item_id in found.impossible:
            if items[item_id].forced:  # a reindex request reports more than a missing row
                attempt.fail(items[item_id], f"{source.name}: the id is not of its key's type", certain=False)
        return source, found.rows

    def _source_fails(self, claim: Claim, attempt: Attempt, error: SourceError) -> None:
        if isinstance(error, NotThisProcess):  # its settings or version may be the wrong ones: no item waits for it
            error = NotThisProcess(f"a worker on {socket.gethostname()}: {error}")
            self._left_to_others[claim.source] = time.monotonic() + SOURCE_WAIT_S
        for item in list(attempt.open):
            attempt.fails(item, error, certain=True)

    def _tell(self, answers: Sequence[Answer]) -> None:
        if self.broker is None or not answers:
            return
        try:
            self.broker.store_results([(answer.task_id, answer.item_id, answer.error) for answer in answers])
        except DependencyUnavailable as exc:
            log.warning("results_store_failed", error=str(exc), task_ids=len(answers))
            return
        with self.postgres.connection() as connection:
            requests.mark_reported(connection, [answer.task_id for answer in answers])

    def report_unreported(self) -> None:
        """Store outcomes of reindex requests settled by a process that then died, or while the backend was
        unavailable."""
        if self.broker is not None:
            try:
                with self.postgres.connection() as connection:
                    requests.report_unreported(connection, self.broker)
            except DependencyUnavailable as exc:
                log.warning("results_store_failed", error=str(exc))
