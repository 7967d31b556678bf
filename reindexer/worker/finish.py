"""Settle a claim, with retries while Postgres is unavailable."""

from __future__ import annotations

import time

import structlog

from reindexer.core.breaker import BreakerPolicy
from reindexer.core.errors import TransientError
from reindexer.postgres.connect import Postgres
from reindexer.queue.breaker import HealthRecorder, record
from reindexer.queue.claim import Claim
from reindexer.queue.lease import Deadline, LeaseExpired
from reindexer.queue.settle import Finished, Settled, finish, postpone
from reindexer.sources.store import clear_problem, set_problem
from reindexer.worker.claim_state import Attempt

log = structlog.get_logger("reindexer.worker.worker")

PAUSE_S = 0.5
"""Seconds between two attempts while Postgres is unavailable."""


def settle_with_retry(
    postgres: Postgres,
    claim: Claim,
    attempt: Attempt,
    health: HealthRecorder,
    breaker: BreakerPolicy,
    deadline: Deadline,
) -> Settled:
    """Settle the finished items, return the postponed ones, and record how the dependencies answered.

    Retries while Postgres fails and the lease lasts, so that finished work is not done twice. Raises
    DependencyUnavailable or another TransientError when the lease is over.
    """
    settled: Settled | None = None
    while True:
        try:
            with postgres.connection() as connection:
                settled = settled or finish(connection, claim, attempt.finished)
                if settled.crashed:
                    attempt.doubt("Postgres may have been restarted while it was worked on")
                postpone(connection, claim, attempt.postponed)
                if attempt.problem:
                    set_problem(connection, claim.source, claim.generation, attempt.problem)
                elif claim.problem and attempt.finished:
                    embedded = any(map(_is_embedded, attempt.finished))
                    clear_problem(connection, claim.source, claim.generation, embedded=embedded)
                record(connection, claim, health, breaker)
                return settled
        except TransientError as exc:
            log.warning("settle_retried", source=claim.source, error=str(exc))
            try:
                time.sleep(deadline.cap(PAUSE_S))  # guard settle-postgres-retry
            except LeaseExpired:
                raise exc from None


def _is_embedded(finished: Finished) -> bool:
    return finished.outcome == "COMPLETED" and finished.how == "embedded" and finished.chunks > 0
