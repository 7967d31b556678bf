"""Redis is flushed, restarted empty, refuses or says nothing, in the middle of a bulk request and of a drain."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import redis
from celery.result import AsyncResult

from reindexer.core.lanes import Lane
from reindexer.embedded.children import free_port
from reindexer.embedded.redis import start_redis
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.claim import claim_batch
from reindexer.queue.settle import Finished, finish
from reindexer.sources.pause import set_paused
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually, seconds_until
from tests.support.applications import application
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

KEY = {"X-API-Key": "test-admin-key"}
AWAY = [Mode.REFUSE, Mode.CUT, Mode.STALL]


@pytest.fixture
def cable(redis_url: str) -> Iterator[Proxy]:
    """Between our processes and Redis."""
    with Proxy.before(redis_url) as proxy:
        yield proxy


@pytest.fixture
def env(env: Mapping[str, str], cable: Proxy, redis_url: str) -> Mapping[str, str]:
    """All processes reach Redis through the proxy."""
    return {**env, "CELERY_BROKER_URL": cable.instead(redis_url)}


def bulk(url: str, ids: list[str]) -> tuple[list[str], float]:
    """Ask for new embeddings; the task ids, and how long the answer took."""
    started = time.monotonic()
    answer = httpx.post(f"{url}/admin/bulk/regenerate-embeddings", json={"context_ids": ids}, headers=KEY, timeout=10)
    took = time.monotonic() - started
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["queued_count"] == len(ids)
    return list(body["task_ids"]), took


def states(url: str, task_ids: list[str]) -> set[str]:
    """Of all task ids, as the API tells them."""
    with httpx.Client(base_url=url, headers=KEY) as client:
        return {client.get(f"/admin/tasks/{task_id}").json()["state"] for task_id in task_ids}


def open_requests(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.request WHERE finished_at IS NULL").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.alone
@pytest.mark.parametrize("mode", AWAY, ids=lambda mode: str(mode.value))
def test_bulk_is_accepted_within_two_seconds_while_the_broker_is_away_and_runs_when_it_is_back(
    db: Connection,
    processes: Processes,
    index: IndexReader,
    provider: FakeProvider,
    cable: Proxy,
    redis_url: str,
    mode: Mode,
) -> None:
    processes.listener()
    processes.worker()
    _, url = processes.api()
    ids = [insert(db, f"text {n}") for n in range(100)]
    eventually(lambda: idle(db), within=30)
    cable.mode = mode
    task_ids, first = bulk(url, ids)
    more, second = bulk(url, ids[:1])
    print(f"broker {mode.value}: answered after {first:.2f} s and {second:.2f} s")
    assert max(first, second) < 2
    cable.mode = Mode.PASS
    eventually(lambda: open_requests(db) == 0, within=40)
    assert states(url, task_ids + more) == {"SUCCESS"}
    eventually(lambda: idle(db))
    results = application(redis_url)
    eventually(lambda: {AsyncResult(each, app=results).state for each in task_ids} == {"SUCCESS"})


@pytest.mark.parametrize("mode", AWAY, ids=lambda mode: str(mode.value))
@pytest.mark.long
def test_a_broker_that_is_away_while_changes_are_drained_holds_up_no_drain_for_long(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, cable: Proxy, mode: Mode
) -> None:
    listener = processes.listener()
    processes.worker()
    first = insert(db, "before")
    eventually(lambda: index.holds(first, vector_of("before")))
    cable.mode = mode
    longest = 0.0
    ids = []
    for n in range(6):
        ids.append(insert(db, f"meanwhile {n}"))
        longest = max(longest, seconds_until(lambda: drained(db), within=20))
    print(f"broker {mode.value}: the longest drain took {longest:.2f} s")
    assert longest < 4
    eventually(lambda: "broker_unavailable" in log_of(listener))
    cable.mode = Mode.PASS
    took = seconds_until(lambda: all(index.holds(i, vector_of(f"meanwhile {n}")) for n, i in enumerate(ids)), within=40)
    print(f"all indexed {took:.1f} s after it was back")
    eventually(lambda: idle(db))
    assert index.count() == 7


def drained(db: Connection) -> bool:
    return db.execute("SELECT count(*) FROM reindexer.outbox").fetchone() == (0,)


@pytest.mark.long
def test_connections_to_the_broker_that_lead_nowhere_are_made_anew(
    db: Connection, processes: Processes, index: IndexReader, cable: Proxy
) -> None:
    """As after a failover of a firewall: what is open stays open and passes nothing on, what is new works."""
    processes.listener()
    worker = processes.worker()
    first = insert(db, "before")
    eventually(lambda: index.holds(first, vector_of("before")))
    cable.freeze()
    second = insert(db, "after")
    took = seconds_until(lambda: index.holds(second, vector_of("after")), within=40)
    print(f"indexed after {took:.1f} s")
    assert worker.running()


@pytest.mark.long
def test_a_worker_whose_connection_for_messages_alone_leads_nowhere_makes_it_anew(
    db: Connection, processes: Processes, index: IndexReader, cable: Proxy
) -> None:
    """No other connection of it fails, which would make it begin anew: it has to miss the answer itself."""
    cable.matching = b"BRPOP"
    processes.listener()
    worker = processes.worker()
    first = insert(db, "before")
    eventually(lambda: index.holds(first, vector_of("before")))
    cable.freeze(matching=True)

    def follows_by_a_new_connection() -> bool:
        """A thread that is still at work needs no message, and may take an edit at once."""
        item_id = insert(db, "after")
        took = seconds_until(lambda: index.holds(item_id, vector_of("after")), within=40)
        print(f"indexed after {took:.1f} s")
        return "Redis BRPOP got no reply" in log_of(worker)

    eventually(follows_by_a_new_connection, every=0.5)


@pytest.mark.long
def test_a_broker_flushed_again_and_again_in_the_middle_of_bulk_and_drain_loses_nothing(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, redis_url: str
) -> None:
    processes.listener()
    processes.worker(REINDEXER_BATCH_SIZE="50")
    _, url = processes.api()
    provider.latency_s = 0.05
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 2000) AS n")
    ids = [str(i) for (i,) in db.execute("SELECT id::text FROM context_items ORDER BY content LIMIT 500")]
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        task_ids, _ = bulk(url, ids)
        while not idle(db):
            client.flushall()
            eventually(lambda: client.exists("reindexer.live", "reindexer.bulk") or idle(db), within=30)
    assert index.count() == 2000
    assert open_requests(db) == 0
    assert states(url, task_ids[:20]) == {"SUCCESS"}
    assert len(provider.inputs) <= 2500


@pytest.mark.alone
def test_a_broker_killed_and_started_anew_empty_in_the_middle_of_bulk_and_drain_loses_nothing(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, tmp_path: Path
) -> None:
    port = free_port()
    own = start_redis(processes.children, tmp_path, port=port)
    processes.env["CELERY_BROKER_URL"] = own.url()
    processes.listener()
    worker = processes.worker(REINDEXER_BATCH_SIZE="50")
    _, url = processes.api()
    provider.latency_s = 0.05
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 1000) AS n")
    ids = [str(i) for (i,) in db.execute("SELECT id::text FROM context_items ORDER BY content LIMIT 300")]
    task_ids, _ = bulk(url, ids)
    eventually(lambda: 50 <= index.count() < 900, within=30)
    processes.children.kill(own.child)
    more, took = bulk(url, ids[:10])
    assert took < 2
    start_redis(processes.children, tmp_path, port=port)
    eventually(lambda: idle(db), within=60)
    assert index.count() == 1000
    assert open_requests(db) == 0
    assert states(url, task_ids[:20] + more) == {"SUCCESS"}
    assert worker.running()
    last = insert(db, "after")
    eventually(lambda: index.holds(last, vector_of("after")))


UNSENT = "SELECT FROM reindexer.request WHERE sent_at IS NULL FOR UPDATE SKIP LOCKED"
"""Requests that no sender has taken, by whatever means."""


def wishes_on_their_way(db: Connection, processes: Processes, cable: Proxy) -> list[str]:
    """Task ids of ten requests that an API has taken and can't get sent: the broker says nothing."""
    ids = [insert(db, f"text {n}") for n in range(10)]
    _, url = processes.api()
    cable.mode = Mode.STALL
    task_ids, _ = bulk(url, ids)
    eventually(lambda: db.execute(UNSENT).rowcount == 0)
    return task_ids


def test_who_settles_an_item_never_waits_for_the_broker_that_its_request_is_being_sent_to(
    db: Connection, processes: Processes, cable: Proxy
) -> None:
    task_ids = wishes_on_their_way(db, processes, cable)
    claim = claim_batch(db, Lane.BULK, 10, 60)
    assert claim is not None
    db.execute("SET lock_timeout = '300ms'")
    settled = finish(db, claim, [Finished(item, "COMPLETED", "t", "p", chunks=1) for item in claim.items])
    assert sorted(answer.task_id for answer in settled.answers) == sorted(task_ids)


def test_requests_that_the_broker_did_not_take_are_sent_when_it_is_back(
    db: Connection, processes: Processes, cable: Proxy, redis_url: str
) -> None:
    task_ids = wishes_on_their_way(db, processes, cable)
    cable.mode = Mode.REFUSE
    eventually(lambda: db.execute(UNSENT).rowcount == 10, within=20)
    cable.mode = Mode.PASS
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        messages = eventually(lambda: len(found := client.lrange("reindexer.bulk", 0, -1)) == 10 and found, within=20)
        assert messages
        assert all(any(task_id in message for message in messages) for task_id in task_ids)


def test_a_request_whose_sender_died_gets_its_own_message_from_the_listener(
    db: Connection, processes: Processes, redis_url: str
) -> None:
    """Paused, so that no batch of the lane answers it first."""
    item_id, task_id = insert(db, "text"), str(uuid.uuid4())
    requests.record(db, "context_items", [requests.ReindexRequest(task_id, item_id)], lane=Lane.BULK, sent=False)
    db.execute("UPDATE reindexer.request SET created_at = created_at - interval '1 minute'")
    set_paused(db, None, paused=True, who="test")
    processes.listener()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        messages = eventually(lambda: client.lrange("reindexer.bulk", 0, -1))
        assert [task_id in message for message in messages] == [True]
    eventually(lambda: db.execute("SELECT sent_at IS NOT NULL FROM reindexer.request").fetchone() == (True,))
