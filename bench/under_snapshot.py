"""Drains, dispatch and claims, timed, and what many settled changes leave behind while an older snapshot is open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import psycopg

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.lanes import Lane
from reindexer.listener.leader import Leader
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.postgres.connect import Connection
from reindexer.queue.dispatch import Dispatch
from reindexer.worker.worker import Worker

ROUND = 2_000
ROUNDS = 3
DRAINS = 10

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

    def flow(self) -> tuple[float, float, float]:
        """A round; returns the medians of the seconds that a drain, topping the queues up and a claim took."""
        drains, claims, top_ups = [], [], []
        for _ in range(DRAINS):
            self.push(ROUND // DRAINS)
            began = time.monotonic()
            assert self.leader.drain_all(self.db)
            drains.append(time.monotonic() - began)
            began = time.monotonic()
            self.leader.dispatch.top_up(self.db)
            top_ups.append(time.monotonic() - began)
        for _ in range(3):
            began = time.monotonic()
            claim = self.worker.claim(Lane.LIVE)
            claims.append(time.monotonic() - began)
            assert claim
            assert len(claim.items) == self.worker.limits.batch_size
        self.worker.run_lane(Lane.LIVE, budget_s=60)
        return median(drains), median(top_ups), median(claims)

    def measure(self) -> tuple[float, float, float]:
        """The medians of some rounds, likewise."""
        drains, top_ups, claims = zip(*(self.flow() for _ in range(ROUNDS)), strict=True)
        return median(drains), median(top_ups), median(claims)


def queue_of(db: Connection, worker: Worker, broker: CeleryBroker) -> Queue:
    """A queue that has flowed once: plans, caches, the first extension of files."""
    worker.limits = replace(worker.limits, lease_s=3600.0)  # what is claimed to measure stays claimed
    leader = Leader(Dispatch(broker, 256, 16), threading.Event(), 0.005, 1.0, lambda *_: None, MetricsBuffer())
    queue = Queue(db, leader, worker)
    queue.flow()
    return queue


@contextmanager
def old_snapshot(database_url: str, db: Connection, changes: int) -> Iterator[None]:
    """A snapshot that stays open and is older than so many changes that went through."""
    with psycopg.connect(database_url) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        for statement in PASSED:
            db.execute(statement, {"changes": changes})
        yield
