"""One claim's execution: read the rows, plan, make Qdrant equal to them, and settle.

No transaction is open between claim and settle. A process may die at any line: its items come back in doubt when the
lease expires. It may also stop for longer than its lease and then go on. Its token is then lower than its successor's,
so Qdrant refuses its writes, and it settles nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from reindexer import budgets
from reindexer.core.errors import ChunkerFailed, DependencyUnavailable, NotThisProcess, SourceError, TransientError
from reindexer.core.items import Row
from reindexer.core.lanes import Lane
from reindexer.core.plan import Skip, Step, plan
from reindexer.core.source import Source
from reindexer.core.spend import Purpose
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.embedding.decorators import ClaimEmbedder, spending
from reindexer.embedding.rate_limit import PATIENCE_S, Throttle
from reindexer.index.fenced import FencedIndex
from reindexer.monitoring.instrument import count_claim, count_outcomes, count_source, did
from reindexer.monitoring.metrics import LEASES_EXPIRED
from reindexer.ports import Collection
from reindexer.queue.breaker import HealthRecorder
from reindexer.queue.claim import Claim
from reindexer.queue.lease import Deadline, LeaseExpired
from reindexer.queue.settle import Postponed, Settled
from reindexer.sources.embedder_record import require_same
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.keys import key_types_among
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source_and_columns
from reindexer.worker.apply import Delivery
from reindexer.worker.claim_state import LEFT_ALONE, Attempt, NotNow
from reindexer.worker.dependencies import Dependencies
from reindexer.worker.donors import Donors
from reindexer.worker.execution import Execution
from reindexer.worker.finish import settle_with_retry
from reindexer.worker.results import report
from reindexer.worker.traced import UNTOLD, Outcome, Steps

log = structlog.get_logger(__name__)

MAX_FAILED_LINES = 5
"""Maximum failed items of one claim that get a log line of their own. The ledger names all."""


def _purpose(claim: Claim) -> Purpose:
    if not claim.is_active:
        return "rebuild"
    return "edit" if claim.lane == Lane.LIVE else "backfill"


class Batch:
    """Works on the items of one claim, then settles them. It says what the process should know before the next one."""

    def __init__(self, using: Dependencies, claim: Claim, deadline: Deadline, steps: Steps = UNTOLD) -> None:
        self.is_tight = False
        """A request had to wait for the rate limiter, or was denied."""
        self._using = using
        self._claim = claim
        self._deadline = deadline
        self._attempt = Attempt(claim, using.policy, using.jitter, using.limits.lease_s)
        self._health = HealthRecorder()
        self._steps = steps
        self._settled: Settled | None = None

    @property
    def leaves_source(self) -> bool:
        """This process can't work on the source for a while."""
        return self._attempt.leaves_source

    @property
    def provider_s(self) -> float:
        """Total time spent asking the provider, in seconds."""
        return self._health.asked_s.get("provider", 0.0)

    @property
    def reservation_waits_s(self) -> Sequence[float]:
        """How long its items wait that the rate limiter denied a slot."""
        return [each.wait_s for each in self._attempt.postponed if each.cause == "rate_limited"]

    @property
    def leaves_marked(self) -> bool:
        """Whether it postponed items of which only the embedding is left to do."""
        return any(each.marks for each in self._attempt.postponed)

    def work(self) -> None:
        """Make Qdrant equal to the items' rows. Each item is then finished or postponed, or the lease has expired."""
        using, claim, attempt = self._using, self._claim, self._attempt
        count_claim(using.counters, claim)
        execution = Execution(using.limits, self._deadline, self._health, using.pool.gate(claim.lane), self._steps)
        try:
            # guard edit-work-priority
            with spending(_purpose(claim)), execution.gate.taken(), using.pool.waiting(claim.lane, waits=claim.marked):
                self._bring(execution)
        except LeaseExpired:
            # The next claim finds out what was written. This process holds nothing any more.
            using.counters.add(LEASES_EXPIRED)
            log.warning("lease_expired", source=claim.source, token=claim.token, items=len(attempt.open))
        except SourceError as exc:
            self._source_fails(exc)
        except TransientError as exc:
            # Postgres, before anything was written. Errors of other dependencies are handled where they are asked.
            log.warning("postgres_failed", source=claim.source, error=str(exc))
            for item in list(attempt.open):
                wait_s = using.policy.wait_s(1, using.jitter())
                attempt.postpone(Postponed(item, wait_s, str(exc), counts=False, cause="postgres"))

    def settle(self) -> Settled:
        """Record the outcomes, and return the rest to the queue. Raises TransientError if Postgres is unavailable until
        the lease is over."""
        using, claim, attempt = self._using, self._claim, self._attempt
        if attempt.problem:
            log.error("source_failed", source=claim.source, error=attempt.problem)
        with self._steps.step("settle"):
            settled = settle_with_retry(using.postgres, claim, attempt, self._health, using.breaker, self._deadline)
        self._settled = settled
        count_outcomes(using.counters, claim, attempt.finished, attempt.postponed, settled)
        report(using.postgres, using.broker, settled.answers)
        self._log(settled)
        return settled

    def outcomes(self) -> Mapping[str, Outcome]:
        """What became of the items that the claim still held, by id."""
        held = set(self._settled.item_ids) if self._settled else set()
        finished = {
            each.item.item_id: (did(each), each.error, each.item.attempts)
            for each in self._attempt.finished if each.item.item_id in held
        }  # fmt: skip
        return finished | {
            each.item.item_id: ("postponed", each.reason, each.item.attempts) for each in self._attempt.postponed
        }

    def _bring(self, execution: Execution) -> None:
        using, claim, attempt = self._using, self._claim, self._attempt
        self._fail_deadly()
        with self._steps.step("read"):
            source, rows = self._read()
        embedder = using.embedder_of(source)
        require_same(source.name, claim.embedder, embedder.fingerprint)  # guard claim-embedder-check
        collection = Collection(
            source.name, source.collection, source.alias, source.profile, claim.embedder,
            claim.generation, claim.is_active, source.keywords,
        )  # fmt: skip
        encoder = using.keyword_encoder_of(source)
        index = execution.index(using.index, collection, embedder.dimensions, claim.token, encoder)
        anew = "qdrant" in claim.failing or bool(claim.problem) or claim.embedder is None  # guard claim-qdrant-recheck
        try:
            using.collections.prepare(
                using.postgres, index, source, embedder.fingerprint, using.instance,
                server=using.server_of(source), anew=anew,
            )  # fmt: skip
        except DependencyUnavailable as exc:
            for item in list(attempt.open):
                attempt.fails(item, exc, certain=True)
            return
        self._health.account = using.account_of(source)
        spec = embedding_spec_of(source, embedder)
        steps = self._plan(rows, spec)
        throttle = Throttle(
            using.rate_limiter_of(source), using.counters, "items", live=claim.lane == Lane.LIVE,
            patience_s=PATIENCE_S if claim.marked else 0.0,  # guard rate-limit-reservation-patience
        )  # fmt: skip
        measured = partial(count_source, using.counters, source.name, embedder.fingerprint)
        try:
            donors = Donors(using.postgres, using.collections, claim, index, partial(execution.view, using.index))
            self._apply(steps, index, execution.embedder(embedder, throttle, measured), donors)
        finally:
            self.is_tight = throttle.is_tight

    def _plan(self, rows: Mapping[str, Row], spec: EmbeddingSpec) -> list[Step]:
        """Return a step for each item, except for those whose text the source's chunker can't cut: each fails alone."""
        steps, attempt = [], self._attempt
        for item in list(attempt.open):
            try:
                steps.append(plan(item, rows.get(item.item_id), spec))
            except ChunkerFailed as exc:  # guard chunker-failure-item
                # Its package may be mended meanwhile.
                wait_s = self._using.policy.healing_wait_s(item.tries_since_failed)
                attempt.fail(item, str(exc), certain=False, heal_after_s=wait_s)
        return steps

    def _apply(self, steps: Sequence[Step], index: FencedIndex, embedder: ClaimEmbedder, donors: Donors) -> None:
        for step in steps:
            if isinstance(step, Skip):
                self._attempt.complete(step)
        delivery = Delivery(
            index, embedder, self._attempt, self._using.refusals, donors,
            self._why_not(),
        )  # fmt: skip
        try:
            delivery.bring([step for step in steps if not isinstance(step, Skip)])
        finally:
            if delivery.failed:
                self._using.collections.forget(index.collection)

    def _why_not(self) -> NotNow | None:
        """Why the claim may not ask the provider."""
        if "provider" in self._claim.left_alone:  # guard breaker-non-probe-silence
            return NotNow(LEFT_ALONE, "provider")
        if not self._claim.over_budget:
            return None
        with self._using.postgres.connection() as connection:
            found = budgets.over(connection, self._claim.source, _purpose(self._claim))
        return NotNow(str(found), "budget") if found else None

    def _fail_deadly(self) -> None:
        policy = self._using.policy
        for item in list(self._attempt.open):
            if policy.died_too_often(item.losses):  # guard suspect-item-loss-limit
                # Its worker may have died of something else each time.
                wait_s = policy.healing_wait_s(item.tries_since_failed)
                reason = "its worker died each time it was tried"
                self._attempt.fail(item, reason, certain=False, heal_after_s=wait_s)

    def _read(self) -> tuple[Source, Mapping[str, Row]]:
        """Return the source as it is now, and rows by id.

        An id that can't be a key of the source has no row. A row that can't be read fails alone.
        """
        attempt = self._attempt
        items = {item.item_id: item for item in attempt.open}
        with self._using.postgres.connection() as connection:
            source, columns = find_source_and_columns(connection, self._claim.source, self._claim.generation)
            found = find_rows(connection, source, list(items), key_types_among(source, columns))
        for item_id, why in found.unreadable.items():
            wait_s = self._using.policy.healing_wait_s(items[item_id].tries_since_failed) if why.may_pass else None
            attempt.fail(items[item_id], why.reason, certain=False, heal_after_s=wait_s)
        for item_id in found.impossible:
            if items[item_id].forced:  # a reindex request reports more than a missing row
                attempt.fail(items[item_id], f"{source.name}: the id is not of its key's type", certain=False)
        return source, found.rows

    def _source_fails(self, error: SourceError) -> None:
        if isinstance(error, NotThisProcess):  # its settings or version may be the wrong ones: no item waits for it
            error = NotThisProcess(f"a worker on {socket.gethostname()}: {error}")
        for item in list(self._attempt.open):
            self._attempt.fails(item, error, certain=True)

    def _log(self, settled: Settled) -> None:
        source, attempt = self._claim.source, self._attempt
        failed = [f for f in attempt.finished if f.outcome == "FAILED"]
        for each in failed[:MAX_FAILED_LINES]:
            log.warning("item_failed", source=source, item_id=each.item.item_id, error=each.error)
        log.info(
            "settled",
            source=source,
            lane=self._claim.lane,
            items=len(settled.item_ids),
            failed=len(failed),
            postponed=len(attempt.postponed),
            oldest_s=round(max((age_s for age_s in settled.ages_s if age_s is not None), default=0.0), 3),
        )
