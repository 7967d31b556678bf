"""RabbitMQ, where one is given: what is done in another way there than in Redis."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping

import amqp
import pytest
from celery import Celery
from kombu import Connection as BrokerConnection

from reindexer.adapters.broker.celery_broker import REQUEST_TASK, WORK_TASK, CeleryBroker, make_celery
from reindexer.core.broker_url import BrokerUrl
from reindexer.core.lanes import Lane
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

URL = os.environ.get("REINDEXER_TEST_RABBITMQ_URL", "")
QUORUM_URL = os.environ.get("REINDEXER_TEST_RABBITMQ_QUORUM_URL", "")
"""Of a virtual host whose default queue type is quorum."""
pytestmark = pytest.mark.skipif(not URL, reason="no RabbitMQ given in REINDEXER_TEST_RABBITMQ_URL")

QUEUES = ("live", "bulk", "celery", "reindexer.live", "reindexer.bulk")


@pytest.fixture
def rabbit() -> Iterator[BrokerConnection]:
    """A connection; afterwards nothing is left of ours."""
    with BrokerConnection(URL) as connection:
        _clean(connection)
        yield connection
        _clean(connection)


def _clean(connection: BrokerConnection) -> None:
    with connection.channel() as channel:
        for queue in QUEUES:
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
        channel.exchange_delete("reindexer.database")


@pytest.fixture
def env(env: Mapping[str, str], rabbit: BrokerConnection) -> Mapping[str, str]:
    return {**env, "CELERY_BROKER_URL": URL, "CELERY_RESULT_BACKEND": env["CELERY_BROKER_URL"]}


def depth(connection: BrokerConnection, queue: str) -> int:
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except amqp.NotFound:
            return 0


def bodies(connection: BrokerConnection, queue: str) -> list[bytes]:
    """All messages, taken away."""
    found = []
    with connection.channel() as channel:
        while message := channel.basic_get(queue, no_ack=True):
            found.append(message.body)
    return found


def test_it_carries_the_same_messages_and_knows_whose_the_prefix_is(rabbit: BrokerConnection) -> None:
    broker, other = (CeleryBroker(make_celery(BrokerUrl(URL), None, result_expires_s=60)) for _ in range(2))
    assert broker.hold("first") == "first"
    assert other.hold("second") == "first"
    broker.send_work(Lane.LIVE, 3)
    eventually(lambda: broker.depth(Lane.LIVE) == 3)
    assert other.hold("second", instead_of="first") == "second"
    broker.close()
    other.close()


def test_our_messages_in_older_queues_are_taken_over_and_others_keep_their_places(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, rabbit: BrokerConnection
) -> None:
    item_id = insert(db, "text")
    db.execute("DELETE FROM reindexer.outbox")
    theirs = Celery("theirs", broker=URL)
    for queue in ("live", "bulk"):
        for n in range(6):
            name = {2: REQUEST_TASK, 4: WORK_TASK}.get(n, "theirs.tasks.send_invoice")
            theirs.send_task(name, (item_id if n == 2 else str(n),), queue=queue, task_id=str(uuid.uuid4()))
    eventually(lambda: depth(rabbit, "live") == depth(rabbit, "bulk") == 6)
    processes.worker(pool="solo", concurrency=1)
    eventually(lambda: index.holds(item_id, vector_of("text")), within=20)
    eventually(lambda: depth(rabbit, "live") == depth(rabbit, "bulk") == 4)
    for queue in ("live", "bulk"):
        assert [f'"{n}"' in str(body) for n, body in zip("0135", bodies(rabbit, queue), strict=True)] == [True] * 4


def test_a_call_without_a_queue_is_answered_by_a_worker_that_starts_and_told_by_one_that_runs(
    db: Connection, processes: Processes, index: IndexReader, rabbit: BrokerConnection
) -> None:
    item_id = insert(db, "text")
    db.execute("DELETE FROM reindexer.outbox")
    application = Celery("application", broker=URL)
    application.send_task(REQUEST_TASK, (item_id,))
    worker = processes.worker(pool="solo", concurrency=1)
    eventually(lambda: index.holds(item_id, vector_of("text")), within=20)
    application.send_task(REQUEST_TASK, (item_id,))
    eventually(lambda: "requests_unattended" in log_of(worker), within=30)


@pytest.mark.skipif(not QUORUM_URL, reason="no virtual host given in REINDEXER_TEST_RABBITMQ_QUORUM_URL")
@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_takes_work_where_quorum_queues_are_the_default(
    db: Connection, processes: Processes, index: IndexReader, pool: str
) -> None:
    processes.env["CELERY_BROKER_URL"] = QUORUM_URL
    with BrokerConnection(QUORUM_URL) as rabbit:
        _clean(rabbit)
        processes.listener()
        worker = processes.worker(pool=pool, concurrency=1)
        item_id = insert(db, "text")
        eventually(lambda: index.payload(item_id), within=20)
        eventually(lambda: heartbeat.alive(db, "worker"))
        assert "Connection to broker lost" not in log_of(worker)
        processes.children.stop_together()
        _clean(rabbit)
