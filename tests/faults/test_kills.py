"""Processes that are killed with SIGKILL between any two steps, and what the next ones make of it.

The moments are real: a provider that does not answer (after the claim), a proxy before Qdrant that holds a request (after
the embedding) or the reply to it (after the write), a proxy before Redis that stalls (after the drain), a lock (settling).
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import pytest
import redis
from celery.result import AsyncResult

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.urls import server_address
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.drain import drain
from reindexer.testing.provider import Call, FakeProvider, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from tests.support.claims import lose_leases
from tests.support.flow import idle, insert, status
from tests.support.index_reader import IndexReader
from tests.support.places import place
from tests.support.processes import TASK, Processes
from tests.support.servers import Servers


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.first(1)
def test_workers_killed_between_any_two_steps_lose_nothing_and_at_most_their_batches_are_embedded_twice(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, servers: Servers, pool: str
) -> None:
    # One claim at a time, so that each worker stands still where it is to be killed.
    processes.env |= {"REINDEXER_BATCH_SIZE": "2", "REINDEXER_CLAIMS_IN_FLIGHT": "0"}
    processes.listener()
    with ExitStack() as stack:
        places = {
            step: stack.enter_context(place(step, servers.qdrant_url))
            for step in ("claim", "half of the embedding", "embedding", "write")
        }
        # Each has an address of its own, which would have to be shown to make the same vectors.
        known = [provider, *(each.provider for each in places.values())]
        servers_known = [server_address(each.url) for each in known]
        made_by = "openai:text-embedding-3-small:32"
        db.execute("UPDATE reindexer.generation SET embedder = %s, servers = %s", [made_by, servers_known])
        killed = [
            processes.start_worker("-n", f"w{n}@%h", pool=pool, concurrency=1, **each.env)
            for n, each in enumerate(places.values())
        ]
        with db.transaction():
            texts = {insert(db, f"text {n}"): f"text {n}" for n in range(10)}
        for step, each in places.items():
            eventually(each.stands_still, within=30, what=f"a worker stands still after {step}")
        assert index.count() == 2, "one of them has written, and does not know"
        for child in killed:
            processes.children.kill(child)
        for each in places.values():
            each.qdrant.reset()
        for n, item_id in enumerate(texts):
            if n % 3 == 0:
                texts[item_id] = f"edited {n}"
                db.execute("UPDATE context_items SET content = %s WHERE id = %s", [texts[item_id], item_id])
        gone_id = next(reversed(texts))
        db.execute("DELETE FROM context_items WHERE id = %s", [gone_id])
        del texts[gone_id]
        lose_leases(db)
        processes.worker("-n", "last@%h", pool=pool)
        eventually(lambda: idle(db), within=60)
        inputs = provider.inputs + [text for each in places.values() for text in each.provider.inputs]
    for item_id, text in texts.items():
        assert index.holds(item_id, vector_of(text))
    assert index.count() == len(texts)
    assert max(map(inputs.count, inputs)) <= 2
    assert len(inputs) <= 10 + 8 + 4, "each, those of four batches of two again, and those that were edited"


def test_a_worker_killed_when_half_of_its_batch_is_written_leaves_the_rest_to_the_next(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, servers: Servers
) -> None:
    processes.listener()
    done = processes.worker(pool="solo")
    gone_id, edited_id = insert(db, "goes"), insert(db, "old")
    eventually(lambda: index.count() == 2)
    eventually(lambda: idle(db))
    processes.children.stop(done)
    with db.transaction():
        db.execute("DELETE FROM context_items WHERE id = %s", [gone_id])
        db.execute("UPDATE context_items SET content = 'new' WHERE id = %s", [edited_id])
    with place("embedding", servers.qdrant_url) as half:
        killed = processes.worker(pool="solo", concurrency=1, **half.env)
        eventually(lambda: half.qdrant.held == 1, within=20)
        assert index.payload(gone_id) is None, "deletes come first"
        assert index.holds(edited_id, vector_of("old"))
        processes.children.kill(killed)
        half.qdrant.reset()
    lose_leases(db)
    processes.worker(pool="solo")
    eventually(lambda: idle(db), within=30)
    assert index.holds(edited_id, vector_of("new"))
    assert index.count() == 1


def test_a_to_b_killed_before_settle_back_to_a_ends_with_a_between_processes(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, servers: Servers
) -> None:
    processes.listener()
    done = processes.worker(pool="solo")
    item_id = insert(db, "A")
    eventually(lambda: index.holds(item_id, vector_of("A")))
    eventually(lambda: idle(db))
    processes.children.stop(done)
    db.execute("UPDATE context_items SET content = 'B'")
    with place("write", servers.qdrant_url) as written:
        killed = processes.worker(pool="solo", concurrency=1, **written.env)
        eventually(lambda: written.qdrant.held == 1, within=20)
        processes.children.kill(killed)
        written.qdrant.reset()
    assert index.holds(item_id, vector_of("B"))
    db.execute("UPDATE context_items SET content = 'A'")
    lose_leases(db)
    processes.worker(pool="solo")
    eventually(lambda: idle(db), within=30)
    assert index.holds(item_id, vector_of("A"))
    assert provider.inputs == ["A", "A"]


def test_a_worker_killed_while_it_settles_has_settled_or_has_not_and_either_is_well(
    db: Connection, database: str, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    """Its statement is on the server and waits for a row; its row is edited at that moment."""
    processes.listener()
    goes_on = threading.Event()

    def hang(call: Call) -> None:
        goes_on.wait(60)

    provider.behave = hang
    killed = processes.worker(pool="solo")
    item_id = insert(db, "first")
    eventually(lambda: provider.calls, within=20)
    with connect(database, application_name="locks") as other, other.transaction():
        other.execute("SELECT FROM reindexer.due FOR UPDATE")
        goes_on.set()
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'reindexer worker'"
        eventually(lambda: db.execute(waits).fetchone() is not None, within=20)
        assert index.holds(item_id, vector_of("first"))
        processes.children.kill(killed)
        db.execute("UPDATE context_items SET content = 'second'")
    lose_leases(db)
    processes.worker(pool="solo")
    eventually(lambda: idle(db) and index.holds(item_id, vector_of("second")), within=30)
    assert status(db, item_id) == ("COMPLETED", None)


def test_a_listener_killed_between_drain_and_dispatch_is_followed_by_one_that_dispatches(
    db: Connection, processes: Processes, index: IndexReader, redis_url: str
) -> None:
    with Proxy.before(redis_url) as broker:
        killed = processes.listener(CELERY_BROKER_URL=broker.instead(redis_url))
        broker.mode = Mode.STALL
        item_id = insert(db, "text")
        drained = "SELECT (SELECT count(*) FROM reindexer.outbox), (SELECT count(*) FROM reindexer.due)"
        eventually(lambda: db.execute(drained).fetchone() == (0, 1))
        processes.children.kill(killed)
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("reindexer.live") == 0
    processes.worker(pool="solo")
    processes.listener()
    eventually(lambda: index.holds(item_id, vector_of("text")), within=20)


def test_a_listener_killed_in_the_middle_of_a_drain_loses_no_change(
    db: Connection, database: str, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    insert(db, "text")
    drain(db)
    with connect(database, application_name="locks") as other, other.transaction():
        other.execute("SELECT FROM reindexer.due FOR UPDATE")
        killed = processes.listener()
        db.execute("UPDATE context_items SET content = 'edited'")
        eventually(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,), within=20)
        processes.children.kill(killed)
    processes.listener()
    processes.worker(pool="solo")
    eventually(lambda: idle(db), within=30)
    assert provider.inputs == ["edited"]


def test_an_api_killed_before_it_sent_what_it_had_taken_loses_no_request(
    db: Connection, processes: Processes, index: IndexReader, broker: CeleryBroker, redis_url: str
) -> None:
    item_id = insert(db, "text")
    with Proxy.before(redis_url) as proxy, ThreadPoolExecutor(1) as thread:
        killed, url = processes.api(CELERY_BROKER_URL=proxy.instead(redis_url))
        proxy.mode = Mode.STALL
        asked = thread.submit(
            httpx.post, f"{url}/admin/bulk/regenerate-embeddings", json={"context_ids": [item_id]},
            headers={"X-API-Key": "test-admin-key"}, timeout=30,
        )  # fmt: skip
        request = "SELECT task_id FROM reindexer.request WHERE sent_at IS NOT NULL"
        (task_id,) = eventually(lambda: db.execute(request).fetchone()) or ("",)
        processes.children.kill(killed)
        with suppress(httpx.TransportError):  # it may have answered already: the request is what counts
            asked.result()
    processes.listener()
    processes.worker(pool="solo")
    eventually(lambda: AsyncResult(task_id, app=broker.app).state == "SUCCESS", within=30)
    assert index.holds(item_id, vector_of("text"))


@pytest.mark.long
def test_a_worker_killed_between_settling_and_telling_is_followed_by_one_that_tells(
    db: Connection, processes: Processes, index: IndexReader, broker: CeleryBroker, redis_url: str
) -> None:
    item_id = insert(db, "text")
    with Proxy.before(redis_url) as results:
        killed = processes.worker(pool="solo", CELERY_RESULT_BACKEND=results.instead(redis_url))
        results.mode = Mode.STALL
        sent = broker.app.send_task(TASK, (item_id,), queue="reindexer.bulk")
        settled = "SELECT FROM reindexer.request WHERE succeeded AND told_at IS NULL"
        eventually(lambda: db.execute(settled).fetchone() is not None, within=20)
        processes.children.kill(killed)
    assert sent.state == "PENDING"
    processes.worker(pool="solo")
    eventually(lambda: sent.state == "SUCCESS", within=30)
    eventually(lambda: db.execute(settled).fetchone() is None)
