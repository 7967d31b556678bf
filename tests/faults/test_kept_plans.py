"""Plans that the server keeps from when the tables were empty: a backlog that comes then must not be read again and
again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.lanes import Lane
from reindexer.listener.leader import Leader
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.settle import Finished, finish
from tests.support.timing import median_ratio

CHANGES = 40_000
BACKLOG = 200_000
BATCH = 256


@pytest.fixture
def leader(broker: CeleryBroker) -> Leader:
    return Leader(Dispatch(broker, BATCH, 16), threading.Event(), 0.005, 1.0, lambda *_: None, MetricsBuffer())


@pytest.mark.alone
@pytest.mark.long
def test_what_was_planned_while_all_was_quiet_is_planned_anew_for_a_backlog(
    db: Connection, database: str, leader: Leader
) -> None:
    tables = [b"reindexer.outbox", b"reindexer.due", b"reindexer.ledger"]
    for table in tables:
        db.execute(b"ALTER TABLE %b SET (autovacuum_enabled = false)" % table)  # it would have all plans made anew
    for n in range(8):
        if n == 4:
            for table in tables:
                db.execute(b"VACUUM ANALYZE %b" % table)
        db.execute("INSERT INTO context_items (title, content) VALUES (%s, 'text')", [f"edit {n}"])
        assert leader.drain_all(db)
        settle_a_batch(db, Lane.LIVE)

    def fresh(measure: Callable[[Connection], float]) -> float:
        with connect(database, application_name="reindexer test") as other:
            return measure(other)

    drain = partial(drain_many, leader=leader)
    settle = partial(settle_a_batch, lane=Lane.BULK)
    drains = median_ratio(lambda: drain(db), lambda: fresh(drain), pairs=3)
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT 'context_items', gen_random_uuid()::text, 1, 'bulk' FROM generate_series(1, %s)",
        [BACKLOG],
    )
    settles = median_ratio(lambda: settle(db), lambda: fresh(settle))
    print(f"times as slow: drain {drains:.2f}, settling {settles:.2f}")
    assert max(drains, settles) < 2


def drain_many(db: Connection, leader: Leader) -> float:
    """Seconds for the drain of one large statement."""
    db.execute("INSERT INTO context_items (title, content) SELECT n, 'text' FROM generate_series(1, %s) n", [CHANGES])
    began = time.monotonic()
    assert leader.drain_all(db)
    took_s = time.monotonic() - began
    db.execute("DELETE FROM reindexer.due")
    return took_s


def settle_a_batch(db: Connection, lane: Lane) -> float:
    """Seconds for it."""
    claim = claim_batch(db, lane, BATCH, 60)
    assert claim is not None
    began = time.monotonic()
    finish(db, claim, [Finished(item, "COMPLETED", "text", "payload", 1) for item in claim.items])
    return time.monotonic() - began
