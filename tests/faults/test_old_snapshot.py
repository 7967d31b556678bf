"""A snapshot that is open for long (a pg_dump, a forgotten BEGIN): nothing that is deleted meanwhile can be cleared away.

Claims, drains and dispatch would walk through all of it each time. They are measured before and after, in one run.
"""

from __future__ import annotations

import time

import pytest

from bench.under_snapshot import Queue, old_snapshot, queue_of
from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue import watermark
from reindexer.queue.claim import MAX_PAUSE_S as LANE_PAUSE_S
from reindexer.queue.claim import LaneWatermark, claim_batch
from reindexer.queue.drain import MAX_PAUSE_S as OUTBOX_PAUSE_S
from reindexer.queue.drain import drain, outbox_watermark
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker

CHANGES = 300_000
MOST_PAGES = 1_000
"""Of the outbox, in a drain of one change, with a whole look among twenty. What lies in the way has over 2,000."""


def outbox_pages_of_a_drain(queue: Queue) -> float:
    """How many pages a drain of one change reads, on average."""

    def read() -> int:
        queue.db.execute("SELECT pg_stat_force_next_flush()")
        pages = (
            "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_all_tables WHERE relid = 'reindexer.outbox'::regclass"
        )
        row = queue.db.execute(pages).fetchone()
        assert row is not None
        return int(row[0])

    before = read()
    for _ in range(20):
        queue.push(1)
        assert queue.leader.drain_all(queue.db)
    pages_read = (read() - before) / 20
    print(f"pages of a drain: {pages_read:.0f}")
    return pages_read


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(300)
def test_claims_and_drains_stay_fast_while_an_old_snapshot_is_open_and_300000_changes_go_through(
    db: Connection, database: str, worker: Worker, broker: CeleryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watermark, "FREE_S", 0.0005)  # a quick machine sees all that lies in the way in less than 3 ms
    queue = queue_of(db, worker, broker)
    before = queue.measure()
    with old_snapshot(database, db, CHANGES):
        for _ in range(3):  # a burst of something else on the machine passes, what lies in the way does not
            during = queue.measure()
            slower = [b / a for a, b in zip(before, during, strict=True)]
            print(
                f"times as slow: drain {slower[0]:.2f}, top-up {slower[1]:.2f}, claim {slower[2]:.2f}"
                f" (before {before} s, during {during} s)"
            )
            if not 2 < max(slower) <= 4:
                break
        assert outbox_pages_of_a_drain(queue) < MOST_PAGES
    assert max(slower) <= 2, slower


def test_what_lies_below_the_floor_is_found_by_the_next_whole_look(db: Connection) -> None:
    """As after looks that took a second."""
    claims, drains = LaneWatermark(), outbox_watermark()
    now = time.monotonic()
    claims.found((None, None), (now, now), ended_s=now, took_s=1.0)
    drains.found(None, 1_000, ended_s=now, took_s=1.0)
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', 'late')")
    assert drain(db, watermark=drains).changes == 0
    eventually(lambda: drain(db, watermark=drains).changes, within=OUTBOX_PAUSE_S + 1)
    assert time.monotonic() - now >= OUTBOX_PAUSE_S
    db.execute("UPDATE reindexer.due SET not_before = now() - interval '1 h'")
    assert claim_batch(db, Lane.LIVE, 10, 60, watermark=claims) is None
    eventually(lambda: claim_batch(db, Lane.LIVE, 10, 60, watermark=claims), within=LANE_PAUSE_S + 1)
    assert time.monotonic() - now >= LANE_PAUSE_S
