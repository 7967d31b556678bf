"""Processes that live and do nothing: a worker's health is what it consumes.

Celery has been seen to reconnect to Redis and then take no message any more, again and again since 5.2 (issues 8030, 8091,
10205, 10302): it lives, answers pings, and its queue grows.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.adapters.broker.heartbeats import MAX_WAITING, Heartbeats, heartbeat_queue
from reindexer.core.queues import Names
from reindexer.embedded.children import Children
from reindexer.embedded.redis import start_redis
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import Connection
from reindexer.testing.waiting import eventually
from tests.support.flow import insert, status
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes

pytestmark = pytest.mark.long

NAMES = Names()


def health(env: Mapping[str, str], *arguments: str) -> int:
    command = [*forked_python(), "reindexer", "health", *arguments]
    return subprocess.run(command, env={**os.environ, **env}, cwd=ROOT, capture_output=True, check=False).returncode


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.first(1)
def test_a_worker_beats_by_running_its_own_messages(
    db: Connection, processes: Processes, env: Mapping[str, str], index: IndexReader, pool: str
) -> None:
    worker = processes.worker("-n", "mine@%h", pool=pool)
    eventually(lambda: heartbeat.alive(db, "worker"))
    assert health(env, "worker", "--node", "mine@%h") == 0
    assert health(env, "worker", "--node", "other@%h") == 1
    processes.children.stop(worker)
    assert heartbeat.alive(db, "worker") == []


def test_only_what_a_restart_may_mend_counts_as_dead(db: Connection, env: Mapping[str, str]) -> None:
    away = "127.0.0.1:9"
    without_postgres = {**env, "DATABASE_URL": f"postgresql://{away}/x"}
    without_broker = {**env, "CELERY_BROKER_URL": f"redis://{away}/0"}
    for role in ("worker", "listener"):
        assert health(env, role, "--liveness") == 1, "it does not beat, and its servers answer"
        assert health(without_postgres, role) == 1
        assert health(without_postgres, role, "--liveness") == 0
    assert health(without_broker, "worker") == 1
    assert health(without_broker, "worker", "--liveness") == 0
    assert health(without_broker, "listener", "--liveness") == 1, "its beats go to Postgres"


@pytest.mark.long  # tests/integration/test_compose.py does the same to every service at once
def test_a_stopped_worker_and_a_stopped_listener_are_unhealthy_within_a_minute(
    db: Connection, processes: Processes, env: Mapping[str, str], index: IndexReader
) -> None:
    worker, listener = processes.worker(), processes.listener()
    eventually(lambda: health(env, "worker") == 0 and health(env, "listener") == 0)
    for child in (worker, listener):
        os.kill(child.process.pid, signal.SIGSTOP)
    try:
        eventually(lambda: health(env, "worker") == 1 and health(env, "listener") == 1, within=60, every=1)
    finally:
        for child in (worker, listener):
            os.kill(child.process.pid, signal.SIGCONT)
    eventually(lambda: health(env, "worker") == 0 and health(env, "listener") == 0, within=30, every=0.5)


def test_a_worker_that_is_connected_but_consumes_nothing_is_unhealthy_and_loses_nothing(
    db: Connection, processes: Processes, env: Mapping[str, str], index: IndexReader, broker: CeleryBroker
) -> None:
    processes.listener()
    node = f"silent@{socket.gethostname()}"
    processes.worker("-n", node, concurrency=1)
    eventually(lambda: heartbeat.alive(db, "worker"), within=20)
    control = broker.app.control
    for queue in (*NAMES.queues(), NAMES.heartbeat_queue(node)):
        assert control.cancel_consumer(queue, destination=[node], reply=True, timeout=10)
    later = "UPDATE reindexer.process SET beat_at = beat_at - interval '35 s' WHERE role = 'worker'"
    db.execute(later)  # as if that much time had passed since its last beat
    item_id = insert(db, "text")
    eventually(lambda: heartbeat.alive(db, "worker") == [], within=30)
    assert control.ping(destination=[node], timeout=10), "it lives, and it is connected"
    assert health(env, "worker", "--node", node) == 1
    assert status(db, item_id) == ("PENDING", None)
    processes.worker("-n", "other@%h", concurrency=1)
    eventually(lambda: index.payload(item_id), within=20)


@pytest.mark.long
def test_workers_of_every_pool_consume_again_after_redis_was_killed_and_came_back_empty_several_times(
    db: Connection, processes: Processes, index: IndexReader, tmp_path: Path
) -> None:
    with Children(tmp_path / "redis") as servers:
        broker = start_redis(servers, tmp_path)
        processes.env["CELERY_BROKER_URL"] = broker.url()
        processes.listener()
        for pool in ("prefork", "threads", "solo"):
            processes.start_worker("-n", f"{pool}@%h", pool=pool, concurrency=1)
        eventually(lambda: len(heartbeat.alive(db, "worker")) == 3, within=40)
        for _ in range(3):
            servers.kill(broker.child)
            broker = start_redis(servers, tmp_path, port=broker.port)
        db.execute("DELETE FROM reindexer.process WHERE role = 'worker'")
        item_id = insert(db, "text")
        eventually(lambda: len(heartbeat.alive(db, "worker")) == 3, within=60, what="each beats again")
        eventually(lambda: index.payload(item_id), within=20)


def test_the_beats_of_a_worker_that_takes_none_do_not_pile_up_in_the_broker(broker: CeleryBroker) -> None:
    beats = Heartbeats(broker.app, heartbeat_queue(NAMES, "hangs@here"), every_s=0.01)
    beats.start()
    with broker.app.connection_for_read() as connection:
        queue = heartbeat_queue(NAMES, "hangs@here")(connection.default_channel)

        def waiting() -> int:
            return int(queue.queue_declare().message_count)

        for _ in range(2):
            eventually(lambda: waiting() == MAX_WAITING)
            with pytest.raises(AssertionError):
                eventually(lambda: waiting() > MAX_WAITING, within=0.3)
            queue.purge()
    beats.stop()


def test_a_worker_that_ends_leaves_nothing_in_the_broker(
    db: Connection, processes: Processes, index: IndexReader, redis_url: str
) -> None:
    worker = processes.worker("-n", "ends@%h", pool="solo")
    eventually(lambda: heartbeat.alive(db, "worker"))
    with redis.Redis.from_url(redis_url) as client:
        assert [key for key in client.scan_iter() if b"beat.ends@" in key]
        processes.children.stop(worker)
        assert [key for key in client.scan_iter() if b"beat.ends@" in key] == []
