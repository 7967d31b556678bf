"""Conclude: settle all that an attempt came to, also where Postgres is away for a moment."""

from __future__ import annotations

import time

import structlog

from reindexer.core.breaker import BreakerPolicy
from reindexer.core.errors import PassingError
from reindexer.postgres.connect import Postgres
from reindexer.queue.breaker import Witness, record
from reindexer.queue.claim import Claim
from reindexer.queue.lease import Deadline, LeaseOver
from reindexer.queue.settle import Finished, Settled, finish, postpone
from reindexer.sources.store import clear_problem, set_problem
from reindexer.worker.claim_state import Attempt

log = structlog.get_logger("reindexer.worker.worker")

PAUSE_S = 0.5
"""Between two tries while Postgres is away."""


def conclude(
    postgres: Postgres, claim: Claim, attempt: Attempt, witness: Witness, breaker: BreakerPolicy, deadline: Deadline
) -> Settled:
    """Settle, give back, and record what was seen of the dependencies.

    Tries again while Postgres fails, as long as the lease holds: what is done is not to be done twice. Raises
    DependencyAway or another PassingError when the lease is over.
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
                    set_problem(connection, claim.source, attempt.problem)
                elif claim.problem and attempt.finished:
                    clear_problem(connection, claim.source, embedded=any(map(_is_embedded, attempt.finished)))
                record(connection, claim, witness, breaker)
                return settled
        except PassingError as exc:
            log.warning("settling_waits", source=claim.source, error=str(exc))
            try:
                time.sleep(deadline.cap(PAUSE_S))  # guard settle-postgres-retry
            except LeaseOver:
                raise exc from None


def _is_embedded(finished: Finished) -> bool:
    return finished.outcome == "COMPLETED" and finished.how == "embedded" and finished.chunks > 0
