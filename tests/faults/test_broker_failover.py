"""The broker answers, and what it answers is an error: a Redis that has become a replica, has no master, is full, lets us
do nothing. All of that passes, and everybody goes on by himself; a sentinel names another server, and all follow."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.errors import DependencyUnavailable
from reindexer.embedded.children import Child, Children, accepts, free_port, wait_until_ready
from reindexer.embedded.redis import server_binary, start_redis
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

pytestmark = pytest.mark.long

FAULTS = {
    "a read-only replica": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "read only replica"),
    "a replica without a master": (
        "CONFIG SET replica-serve-stale-data no; REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "Link with MASTER is down",
    ),
    "full": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", ""),
    "a right is withdrawn": ("ACL SETUSER default -@list -@set -@string", "ACL SETUSER default +@all", "no permissions"),
}  # fmt: skip
"""How it begins, how it ends, and what a worker is told; a full Redis still gives what it has."""

TRIES_AGAIN = re.compile("Trying (to re|again in)")
"""In a worker's log, with each try, whether the broker refuses what is asked or already the connection."""


def tries(worker: Child) -> int:
    return len(TRIES_AGAIN.findall(log_of(worker)))


def say(client: redis.Redis, words: str) -> None:
    for command in words.split("; "):
        client.execute_command(*command.split(" "))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "fault", [each if each == "a read-only replica" else pytest.param(each, marks=pytest.mark.long) for each in FAULTS]
)
@pytest.mark.long
def test_workers_listener_and_api_come_back_by_themselves_from_a_redis_that_answers_with_errors(
    db: Connection, processes: Processes, index: IndexReader, tmp_path: Path, fault: str
) -> None:
    own = start_redis(processes.children, tmp_path)
    processes.env["CELERY_BROKER_URL"] = own.url()
    listener = processes.listener()
    workers = [
        processes.start_worker("-n", f"{pool}@%h", pool=pool, concurrency=1) for pool in ("prefork", "threads", "solo")
    ]
    _, url = processes.api()
    eventually(lambda: len(heartbeat.alive(db, "worker")) == 3, within=40)
    begins, ends, answer = FAULTS[fault]
    with redis.Redis.from_url(own.url()) as client:
        say(client, begins)
        ids = [insert(db, f"text {n}") for n in range(3)]
        eventually(lambda: "broker_unavailable" in log_of(listener))
        eventually(lambda: httpx.get(f"{url}/readyz").json()["checks"]["broker"] == "does not answer")
        for worker in workers if answer else ():
            eventually(lambda: tries(worker) >= 2, within=20)  # noqa: B023
        say(client, ends)
        client.config_set("maxmemory", 0)
    db.execute("DELETE FROM reindexer.process WHERE role = 'worker'")
    eventually(lambda: all(index.holds(i, vector_of(f"text {n}")) for n, i in enumerate(ids)), within=20)
    eventually(lambda: len(heartbeat.alive(db, "worker")) == 3, within=20, what="each beats again")
    eventually(lambda: httpx.get(f"{url}/readyz").is_success, within=10)
    assert all(worker.running() for worker in workers)
    assert answer in "".join(map(log_of, workers))


@pytest.mark.long
def test_a_worker_that_starts_while_redis_is_a_replica_waits_until_it_is_none(
    db: Connection, processes: Processes, index: IndexReader, tmp_path: Path
) -> None:
    own = start_redis(processes.children, tmp_path)
    processes.env["CELERY_BROKER_URL"] = own.url()
    with redis.Redis.from_url(own.url()) as client:
        say(client, "REPLICAOF 127.0.0.1 1")
        worker = processes.start_worker(pool="prefork", concurrency=1)
        processes.listener()
        eventually(lambda: tries(worker) > 0, within=30)
        say(client, "REPLICAOF NO ONE")
    item_id = insert(db, "text")
    eventually(lambda: index.holds(item_id, vector_of("text")), within=20)
    assert worker.running()


def test_a_redis_that_answers_with_errors_is_not_asked_in_a_loop(
    db: Connection, processes: Processes, tmp_path: Path
) -> None:
    """Connecting works, and is no cure: the pauses grow."""
    own = start_redis(processes.children, tmp_path)
    processes.env["CELERY_BROKER_URL"] = own.url()
    worker = processes.worker(pool="solo", concurrency=1)
    with redis.Redis.from_url(own.url()) as client:
        say(client, "REPLICAOF 127.0.0.1 1")
        # Whichever is first: what it waits for in a queue is broken off, or Celery renews a queue's expiry.
        eventually(lambda: re.search("read only replica|ReadOnlyError", log_of(worker)), within=60)
        with pytest.raises(AssertionError):
            eventually(lambda: tries(worker) > 5, within=5)
    assert worker.running(), "Celery ends one that connects again too often"


def test_a_redis_that_has_just_become_a_replica_is_not_well(broker: CeleryBroker, redis_url: str) -> None:
    """It answers whoever only asks."""
    broker.hold("first")
    broker.ping()
    with redis.Redis.from_url(redis_url) as client:
        say(client, "REPLICAOF 127.0.0.1 1")
        try:
            with pytest.raises(DependencyUnavailable, match="ReadOnlyError"):
                broker.ping()
        finally:
            say(client, "REPLICAOF NO ONE")
    broker.ping()


def start_sentinel(children: Children, directory: Path, master: int) -> tuple[Child, int]:
    """One sentinel, which alone decides that a server is gone, within half a second."""
    port, name = free_port(), directory / "sentinel.conf"
    name.write_text(
        f"port {port}\nsentinel monitor ours 127.0.0.1 {master} 1\nsentinel down-after-milliseconds ours 500\n"
        "sentinel failover-timeout ours 2000\n"
    )
    child = children.start("sentinel", [str(server_binary()), str(name), "--sentinel"])
    wait_until_ready(child, lambda: accepts(port), within_s=10)
    return child, port


def test_all_follow_a_sentinel_to_the_server_that_takes_the_place_of_a_dead_one(
    db: Connection, processes: Processes, index: IndexReader, tmp_path: Path
) -> None:
    first = start_redis(processes.children, tmp_path)
    second = start_redis(processes.children, tmp_path)
    with redis.Redis.from_url(second.url()) as client:
        say(client, f"REPLICAOF 127.0.0.1 {first.port}")
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
    _, port = start_sentinel(processes.children, tmp_path, first.port)
    knows: Callable[[], bool]
    with redis.Redis(port=port) as sentinel:
        knows = lambda: len(sentinel.sentinel_slaves("ours")) == 1  # noqa: E731
        eventually(knows, within=20)
    processes.env["CELERY_BROKER_URL"] = f"sentinel://127.0.0.1:{port}/0?master_name=ours"
    processes.listener()
    worker = processes.worker(pool="prefork", concurrency=1)
    before = insert(db, "before")
    eventually(lambda: index.holds(before, vector_of("before")), within=20)
    processes.children.kill(first.child)
    after = insert(db, "after")
    eventually(lambda: index.holds(after, vector_of("after")), within=40)
    assert worker.running()
    with redis.Redis.from_url(second.url(), decode_responses=True) as client:
        assert client.get("reindexer.database")
        assert [key for key in client.scan_iter() if key.startswith("reindexer:budget:")]
