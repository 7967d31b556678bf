"""A snapshot that is open for long (a pg_dump, a forgotten BEGIN): nothing that is deleted meanwhile can be cleared away.

Claims, drains and dispatch would walk through all of it each time. They are measured before and after, in one run.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from statistics import median

import psycopg
import pytest

from reindexer.adapters.celery_broker import CeleryBroker
from reindexer.core.tally import Tally
from reindexer.flow.claim import MAX_PAUSE_S as LANE_PAUSE_S
from reindexer.flow.claim import claim_batch, lane_floor
from reindexer.flow.dispatch import Dispatch
from reindexer.flow.drain import MAX_PAUSE_S as OUTBOX_PAUSE_S
from reindexer.flow.drain import drain, outbox_floor
from reindexer.flow.work import Worker
from reindexer.leader import Leader
from reindexer.postgres.connect import Connection
from tests.support.waiting import eventually

ROUND = 2_000
ROUNDS = 3
DRAINS = 10


@dataclass(slots=True)
class Queue:
    """Pushes changes through a leader's drains and a worker's claims, which it times."""

    db: Connection
    leader: Leader
    worker: Worker
    pushed: int = 0

    def push(self, changes: int) -> None:
        """Of items that have no row: nothing is embedded or written, so most of the time goes into the queue."""
        self.db.execute(
            "INSERT INTO reindexer.outbox (source, item_id)"
            " SELECT 'context_items', 'item ' || n FROM generate_series(%s::int + 1, %s::int) AS n",
            [self.pushed, self.pushed + changes],
        )
        self.pushed += changes

    def flow(self) -> tuple[float, float]:
        """A round; returns the medians of the seconds that a drain (with its dispatch) and a claim took."""
        drains, claims = [], []
        for _ in range(DRAINS):
            self.push(ROUND // DRAINS)
            began = time.monotonic()
            assert self.leader.drain_all(self.db)
            drains.append(time.monotonic() - began)
        for _ in range(3):
            began = time.monotonic()
            claim = self.worker.claim("live")
            claims.append(time.monotonic() - began)
            assert claim
            assert len(claim.items) == self.worker.limits.batch_size
        self.worker.run_lane("live", budget_s=60)
        return median(drains), median(claims)

    def measure(self) -> tuple[float, float]:
        rounds = [self.flow() for _ in range(ROUNDS)]
        return median(drain for drain, _ in rounds), median(claim for _, claim in rounds)


CHANGES = 300_000

PASSED = (
    "WITH added AS (INSERT INTO reindexer.outbox (source, item_id)"
    " SELECT 'context_items', 'passed ' || n FROM generate_series(1, %(changes)s) AS n)"
    " INSERT INTO reindexer.due (source, item_id, generation, lane)"
    " SELECT 'context_items', 'passed ' || n, 1, 'live' FROM generate_series(1, %(changes)s) AS n",
    "DELETE FROM reindexer.outbox WHERE item_id LIKE 'passed %%'",
    "UPDATE reindexer.due SET not_before = now() + interval '1 h' WHERE item_id LIKE 'passed %%'",
    "DELETE FROM reindexer.due WHERE item_id LIKE 'passed %%'",
)
"""What drains, claims and settles leave behind in the tables, faster than by them."""


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_claims_and_drains_stay_fast_while_an_old_snapshot_is_open_and_300000_changes_go_through(
    db: Connection, database: str, worker: Worker, broker: CeleryBroker
) -> None:
    worker.limits = replace(worker.limits, lease_s=3600.0)  # what is claimed to measure stays claimed
    leader = Leader(Dispatch(broker, 256, 16), threading.Event(), 0.005, 1.0, lambda *_: None, Tally())
    queue = Queue(db, leader, worker)
    queue.flow()  # plans, caches, the first extension of files
    before = queue.measure()
    with psycopg.connect(database) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        for statement in PASSED:
            db.execute(statement, {"changes": CHANGES})
        during = queue.measure()
    slower = [b / a for a, b in zip(before, during, strict=True)]
    print(f"times as slow: drain {slower[0]:.2f}, claim {slower[1]:.2f} (before {before} s, during {during} s)")
    assert max(slower) <= 2, slower


def test_what_lies_below_the_floor_is_found_by_the_next_whole_look(db: Connection) -> None:
    """As after looks that took a second."""
    claims, drains = lane_floor(), outbox_floor()
    now = time.monotonic()
    claims.found(None, now, ended_s=now, took_s=1.0)
    drains.found(None, 1_000, ended_s=now, took_s=1.0)
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', 'late')")
    assert drain(db, floor=drains).changes == 0
    eventually(lambda: drain(db, floor=drains).changes, within=OUTBOX_PAUSE_S + 1)
    assert time.monotonic() - now >= OUTBOX_PAUSE_S
    db.execute("UPDATE reindexer.due SET not_before = now() - interval '1 h'")
    assert claim_batch(db, "live", 10, 60, floor=claims) is None
    eventually(lambda: claim_batch(db, "live", 10, 60, floor=claims), within=LANE_PAUSE_S + 1)
    assert time.monotonic() - now >= LANE_PAUSE_S
