"""While a breaker is open one item at a time tries the dependency, and only a probe's answer counts."""

from __future__ import annotations

import time
import uuid

import pytest
import redis

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import requests
from reindexer.queue.breaker import HealthRecorder, open_breakers, prune_breakers, record
from reindexer.queue.claim import Claim, claim_batch, claim_item
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.drain import drain
from reindexer.testing.provider import FakeProvider
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.outages import ready


def mark_all(db: Connection, worker: Worker) -> None:
    """All that waits has been looked at, and may be the probe."""
    db.execute("UPDATE reindexer.breaker SET probe_at = clock_timestamp() + interval '1 hour'")
    ready(db, probe=False)
    worker.run_lane(Lane.LIVE, budget_s=5)
    ready(db)


def open_it(db: Connection, worker: Worker, proxy: Proxy, *, small: int = 1) -> None:
    """Fail three times, with claims of `small` items."""
    proxy.mode = Mode.REFUSE
    worker.limits = WorkLimits(batch_size=small, provider_timeout_s=1.0)
    drain(db)
    for _ in range(3):
        ready(db)
        worker.run_lane(Lane.LIVE, budget_s=0)
    assert [each.dependency for each in open_breakers(db)] == ["provider"]


def claim(connection: Connection, lane: Lane = Lane.LIVE) -> Claim | None:
    return claim_batch(connection, lane, 100, 60)


def test_while_it_is_open_what_needs_it_is_not_claimed_nor_counted_as_ready_and_no_message_is_sent(
    db: Connection, worker: Worker, proxy: Proxy, broker: CeleryBroker, index: IndexReader, redis_url: str
) -> None:
    ids = [insert(db, f"text {n}") for n in range(10)]
    open_it(db, worker, proxy)
    requests.record(
        db, "context_items", [requests.ReindexRequest(str(uuid.uuid4()), ids[5])], lane=Lane.BULK, sent=True
    )
    db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
    work(db, worker)
    db.execute("UPDATE reindexer.due SET not_before = now()")
    assert claim(db) is None
    assert claim(db, Lane.BULK) is None
    assert claim_item(db, "context_items", ids[5], 100, 60) is None, "a request waits too"
    dispatch = Dispatch(broker, batch_size=1, max_messages=16)
    assert dispatch.top_up(db) == {}
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, failures, reason, opened_at, probe_at)"
        " VALUES ('qdrant', 3, 'away too', now(), now())"
    )
    assert claim(db) is None, "one that may be probed does not let pass what the other holds back"
    assert dispatch.top_up(db) == {}
    insert(db, "another text")
    drain(db)
    db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour' WHERE dependency = 'qdrant'")
    assert dispatch.top_up(db) == {}, "without Qdrant nothing can be done"
    assert claim(db) is None
    db.execute("DELETE FROM reindexer.breaker WHERE dependency = 'qdrant'")
    db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
    assert dispatch.top_up(db) == {"live": 1}, "what may need no provider"
    work(db, worker)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert dispatch.top_up(db) == {}
    db.execute("UPDATE reindexer.breaker SET probe_at = now()")
    assert dispatch.top_up(db) == {"live": 1}, "one message for the probe"
    db.execute("DELETE FROM reindexer.breaker")
    assert dispatch.top_up(db) == {"live": 10}


def test_while_qdrants_may_be_probed_one_claim_takes_one_item_and_others_nothing(db: Connection) -> None:
    for n in range(3):
        insert(db, f"text {n}")
    drain(db)
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, failures, reason, opened_at, probe_at)"
        " VALUES ('qdrant', 3, 'away', now(), now())"
    )
    probe = claim(db)
    assert probe
    assert len(probe.items) == 1
    assert "qdrant" in probe.probes
    assert claim(db) is None


@pytest.mark.parametrize("by_name", [False, True], ids=["claim_batch", "claim_item"])
def test_exactly_one_of_the_claims_that_come_together_gets_the_probe_of_one_item(
    db: Connection, database: str, worker: Worker, proxy: Proxy, by_name: bool, index: IndexReader
) -> None:
    ids = [insert(db, f"text {n}") for n in range(10)]
    open_it(db, worker, proxy)
    mark_all(db, worker)

    def take(connection: Connection, item_id: str) -> Claim | None:
        return claim_item(connection, "context_items", item_id, 100, 60) if by_name else claim(connection)

    with connect(database, application_name="other") as other, other.transaction():
        other.execute("SET LOCAL lock_timeout = '5s'")
        first = take(db, ids[0])
        second = take(other, ids[1])
    assert first is not None
    assert len(first.items) == 1
    assert first.probes == {"provider"}
    assert second is None


def test_claims_that_wait_for_each_other_in_open_transactions_share_one_probe(
    db: Connection, database: str, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    """The second looks while the first has taken the probe and not committed."""
    from concurrent.futures import ThreadPoolExecutor

    for n in range(10):
        insert(db, f"text {n}")
    open_it(db, worker, proxy)
    mark_all(db, worker)
    with connect(database, application_name="other") as other, ThreadPoolExecutor(1) as executor:
        with db.transaction():
            assert claim_batch(db, Lane.LIVE, 1, 60) is not None
            second = executor.submit(claim_batch, other, Lane.LIVE, 1, 60.0)
            eventually(lambda: _waits_for_a_lock(database))
        assert second.result(timeout=30) is None


def _waits_for_a_lock(database: str) -> bool:
    with connect(database, application_name="watch") as watch:
        row = watch.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'other' AND wait_event_type = 'Lock'"
        ).fetchone()
    return row == (1,)


def test_the_waits_between_probes_double_up_to_a_limit_and_only_probes_make_them_grow(
    db: Connection, worker: Worker, proxy: Proxy, provider: FakeProvider, index: IndexReader
) -> None:
    insert(db, "text")
    late_id = insert(db, "a claim that began before it opened")
    drain(db)
    late = claim_item(db, "context_items", late_id, 1, 60)
    assert late is not None
    open_it(db, worker, proxy)
    waits = []
    for _ in range(7):
        row = db.execute("SELECT wait_s FROM reindexer.breaker").fetchone()
        assert row is not None
        waits.append(row[0])
        db.execute("UPDATE reindexer.due SET attempts = 1")
        ready(db)
        worker.run_lane(Lane.LIVE, budget_s=0)
    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5])
    before = db.execute("SELECT wait_s, probe_at FROM reindexer.breaker").fetchone()
    from reindexer.queue.lease import Deadline

    worker._work(late, Deadline.after(60))
    assert db.execute("SELECT wait_s, probe_at FROM reindexer.breaker").fetchone() == before
    assert not provider.calls


def test_an_answer_that_is_older_than_the_last_failure_does_not_close_it(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    insert(db, "text")
    open_it(db, worker, proxy)
    ready(db)
    probe, health = claim(db), HealthRecorder()
    assert probe is not None
    for ago_s, still_open in ((3600.0, True), (0.0, False)):
        health.seen["provider"] = (time.monotonic() - ago_s, None)
        record(db, probe, health, worker.breaker)
        assert bool(open_breakers(db)) is still_open


def test_a_probe_that_had_no_reason_to_ask_the_provider_leaves_the_next_one_free(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    db.execute("UPDATE context_items SET content = 'another text'")
    open_it(db, worker, proxy)
    mark_all(db, worker)
    db.execute("SET session_replication_role = replica")  # so that nobody looks at it before it is the probe
    db.execute("DELETE FROM context_items")
    db.execute("RESET session_replication_role")
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert index.payload(item_id) is None, "a deletion needs no provider"
    assert db.execute("SELECT probe_at <= clock_timestamp() FROM reindexer.breaker").fetchone() == (True,)


def test_when_a_probe_dies_the_next_comes_when_its_lease_is_over(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    for n in range(3):
        insert(db, f"text {n}")
    open_it(db, worker, proxy)
    mark_all(db, worker)
    assert claim_batch(db, Lane.LIVE, 10, 2) is not None
    assert claim(db) is None
    taken = eventually(lambda: claim(db))
    assert taken is not None
    assert len(taken.items) == 1


def test_a_breaker_that_nobody_has_a_reason_to_probe_is_forgotten(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    insert(db, "text")
    open_it(db, worker, proxy)
    prune_breakers(db)
    assert open_breakers(db)
    db.execute(
        "UPDATE reindexer.breaker SET probe_at = now() - interval '11 minutes', failed_at = now() - interval '1 h'"
    )
    prune_breakers(db)
    assert open_breakers(db) == []
