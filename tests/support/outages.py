"""Items while a server is away: what becomes of them, and when they may be tried."""

from __future__ import annotations

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker


def attempts(db: Connection) -> list[int]:
    return [int(n) for (n,) in db.execute("SELECT attempts FROM reindexer.due ORDER BY attempts")]


def ready(db: Connection, *, probe: bool = True) -> None:
    """As if every wait was over."""
    db.execute("UPDATE reindexer.due SET not_before = clock_timestamp() WHERE lease_until IS NULL")
    if probe:
        db.execute("UPDATE reindexer.breaker SET probe_at = clock_timestamp()")


def work_until_done(db: Connection, worker: Worker, within: float = 20) -> None:
    drain(db)

    def done() -> bool:
        worker.run_lane(Lane.LIVE, budget_s=0)
        worker.run_lane(Lane.BULK, budget_s=0)
        return not attempts(db)

    eventually(done, within=within, every=0.02)


def attempts_by_item(db: Connection) -> list[int]:
    return [int(n) for (n,) in db.execute("SELECT attempts FROM reindexer.due ORDER BY item_id")]
