"""Plans that the server keeps from when the tables were empty: a backlog that comes then must not be read again and
again."""

from __future__ import annotations

import threading
import time

import pytest

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.listener.leader import Leader
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.settle import Finished, finish

CHANGES = 40_000
BATCH = 256


@pytest.fixture
def leader(broker: CeleryBroker) -> Leader:
    return Leader(Dispatch(broker, BATCH, 16), threading.Event(), 0.005, 1.0, lambda *_: None, MetricsBuffer())


@pytest.mark.alone
def test_what_was_planned_while_all_was_quiet_is_planned_anew_for_a_backlog(
    db: Connection, database: str, leader: Leader
) -> None:
    for n in range(8):
        if n == 4:
            for table in ("outbox", "due", "ledger"):
                db.execute(f"VACUUM ANALYZE reindexer.{table}".encode())
        db.execute("INSERT INTO context_items (title, content) VALUES (%s, 'text')", [f"edit {n}"])
        assert leader.drain_all(db)
        settle_a_batch(db, "live")
    kept = drain_many(db, leader), settle_a_batch(db, "bulk")
    with connect(database, application_name="reindexer test") as other:
        fresh = drain_many(other, leader), settle_a_batch(other, "bulk")
    slower = [kept_s / fresh_s for kept_s, fresh_s in zip(kept, fresh, strict=True)]
    print(f"times as slow: drain {slower[0]:.2f}, settling {slower[1]:.2f} ({kept} and {fresh} s)")
    assert max(slower) < 3


def drain_many(db: Connection, leader: Leader) -> float:
    """Seconds for the drain of one large statement."""
    db.execute("INSERT INTO context_items (title, content) SELECT n, 'text' FROM generate_series(1, %s) n", [CHANGES])
    began = time.monotonic()
    assert leader.drain_all(db)
    return time.monotonic() - began


def settle_a_batch(db: Connection, lane: str) -> float:
    """Seconds for it."""
    claim = claim_batch(db, lane, BATCH, 60)
    assert claim is not None
    began = time.monotonic()
    finish(db, claim, [Finished(item, "COMPLETED", "text", "payload", 1) for item in claim.items])
    return time.monotonic() - began
