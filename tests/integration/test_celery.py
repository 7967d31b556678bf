"""The Celery app, the public task, and the queues, with a real broker and real worker processes."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit

import psutil
import pytest
from celery.result import AsyncResult

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.errors import ItemFailed
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.ports import Embedder
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.dispatch import TAKEN_S, Dispatch
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.warmup import warm
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, TASK, Processes


def python(code: str, env: Mapping[str, str]) -> str:
    """Run a line in a process of its own with that environment, as an application would; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**dict(env), "PATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def result(broker: CeleryBroker, task_id: str) -> AsyncResult:
    return AsyncResult(task_id, app=broker.app)


def test_celery_app_creation(env: Mapping[str, str]) -> None:
    tasks = "sorted(name for name in app.tasks if name.startswith('reindexer'))"
    code = f"from reindexer.celery_app import app; import reindexer.tasks; print(app.main, *{tasks})"
    names = ("heartbeat_task", "regenerate_embedding_task", "work_lane_task")
    assert python(code, env).split() == ["reindexer", *(f"reindexer.tasks.{name}" for name in names)]


def test_celery_broker_url(env: Mapping[str, str]) -> None:
    code = "from reindexer.celery_app import app; print(app.conf.broker_url, app.conf.accept_content)"
    assert python(code, env) == f"{env['CELERY_BROKER_URL']} ['json']"


def test_indexing_imports_without_celery(env: Mapping[str, str]) -> None:
    code = "import sys, reindexer.indexing; print([m for m in sys.modules if m.split('.')[0] in ('celery', 'kombu')])"
    assert python(code, env) == "[]"


def test_each_pool_process_is_connected_before_its_first_edit(processes: Processes, env: Mapping[str, str]) -> None:
    worker = processes.worker(concurrency=2)
    qdrant = urlsplit(env["QDRANT_URL"]).port
    pool = psutil.Process(worker.process.pid).children()
    assert len(pool) == 2

    def connected(process: psutil.Process) -> bool:
        return any(
            each.status == psutil.CONN_ESTABLISHED and each.raddr.port == qdrant
            for each in process.net_connections("tcp")
        )

    eventually(lambda: all(map(connected, pool)), within=10)


def test_a_process_makes_its_providers_clients_while_qdrant_is_away(worker: Worker) -> None:
    made, embedder_of = list[str](), worker.embedder_of

    def noted(source: Source) -> Embedder:
        made.append(source.name)
        return embedder_of(source)

    worker.embedder_of = noted
    worker.index = QdrantIndex("http://127.0.0.1:9", api_key=None, grpc_port=None)
    warm(worker)
    assert made == ["context_items"]


def test_regenerate_embedding_task_success(
    db: Connection, processes: Processes, index: IndexReader, broker: CeleryBroker, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    worker = processes.worker()
    sent = broker.app.send_task(TASK, (item_id,), queue="reindexer.bulk")
    assert sent.get(timeout=20) == item_id
    assert index.holds(item_id, vector_of("text"))
    assert sent.id in log_of(worker)
    again = broker.app.send_task(TASK, (item_id,), queue="reindexer.bulk")
    again.get(timeout=20)
    assert provider.inputs == ["text", "text"], "a request embeds anew although nothing changed"


def test_regenerate_embedding_task_retry(
    db: Connection, processes: Processes, broker: CeleryBroker, provider: FakeProvider
) -> None:
    """Exactly four calls, then FAILED: the first try and three retries."""
    provider.behave = lambda call: error(500, "overloaded")
    processes.listener()
    processes.worker()
    item_id = insert(db, "text")
    eventually(lambda: (status(db, item_id) or ("",))[0] == "FAILED", within=20)
    assert len(provider.calls) == 4
    provider.calls.clear()
    sent = broker.app.send_task(TASK, (item_id,), queue="reindexer.bulk")
    with pytest.raises(ItemFailed, match="500"):
        sent.get(timeout=20)
    assert len(provider.calls) == 4
    assert status(db, item_id) == ("FAILED", "the embedding provider answered 500 (overloaded)")


def test_regenerate_embedding_task_context_not_found(processes: Processes, broker: CeleryBroker) -> None:
    processes.worker()
    missing = str(uuid.uuid4())
    with pytest.raises(ItemFailed, match="no row with this key"):
        broker.app.send_task(TASK, (missing,), queue="reindexer.bulk").get(timeout=20)


def test_regenerate_embedding_task_malformed_id(
    db: Connection, processes: Processes, index: IndexReader, broker: CeleryBroker
) -> None:
    """It fails alone. Another spelling of a key is no other item."""
    processes.worker()
    item_id = insert(db, "text")
    bad = broker.app.send_task(TASK, ("not-a-uuid",), queue="reindexer.bulk")
    good = broker.app.send_task(TASK, (item_id.upper(),), queue="reindexer.bulk")
    with pytest.raises(ItemFailed, match="not of its key's type"):
        bad.get(timeout=20)
    assert good.get(timeout=20) == item_id
    assert index.count() == 1


def test_regenerate_embedding_task_qdrant_unavailable(
    db: Connection, processes: Processes, index: IndexReader, broker: CeleryBroker, servers: object
) -> None:
    """It waits, with the reason, and is done when Qdrant is there. (Away past all tries: tests/faults/test_qdrant_away.)"""
    processes.listener()
    dead = processes.worker(QDRANT_URL="http://127.0.0.1:9", REINDEXER_RETRY_BASE_S="3")
    item_id = insert(db, "text")
    sent = broker.app.send_task(TASK, (item_id,), queue="reindexer.bulk")

    def waits() -> bool:
        state, reason = status(db, item_id) or ("", None)
        return state == "PENDING" and "Qdrant at" in str(reason)  # meanwhile it is tried again

    eventually(waits, within=20)
    processes.children.stop(dead)
    processes.worker()
    eventually(lambda: sent.state == "SUCCESS", within=30)
    assert index.holds(item_id, vector_of("text"))


def test_a_thousand_requests_are_at_most_twenty_provider_requests_and_each_is_told(
    db: Connection, processes: Processes, broker: CeleryBroker, index: IndexReader, provider: FakeProvider
) -> None:
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 1000) n")
    db.execute("DELETE FROM reindexer.outbox")
    ids = [str(i) for (i,) in db.execute("SELECT id FROM context_items")]
    asked = [requests.ReindexRequest(str(uuid.uuid4()), item_id) for item_id in ids]
    assert requests.record(db, "context_items", asked, lane=Lane.BULK, sent=False) == 1000
    assert requests.send_unsent(db, broker, older_s=0) == 1000
    worker = processes.worker()
    eventually(lambda: all(result(broker, request.task_id).state == "SUCCESS" for request in asked[::97]), within=30)
    eventually(lambda: db.execute("SELECT count(*) FROM reindexer.due").fetchone() == (0,))
    assert len(provider.calls) <= 20
    assert index.count() == 1000
    eventually(lambda: all(request.task_id in log_of(worker) for request in asked))
    assert all(result(broker, request.task_id).state == "SUCCESS" for request in asked)
    states = db.execute("SELECT count(*) FROM reindexer.request WHERE succeeded").fetchone()
    assert states == (1000,)


@pytest.mark.long
def test_a_synchronous_call_indexes_without_listener_or_worker(
    db: Connection, env: Mapping[str, str], index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    call = "from reindexer.indexing import generate_context_item_embedding as g; "
    failing = "\ntry: g('00000000-0000-0000-0000-000000000000')\nexcept Exception as e: print(type(e).__name__, e)"
    assert "ItemFailed context_items: no row with this key" in python(f"{call}g({item_id!r}){failing}", env)
    assert index.holds(item_id, vector_of("text"))
    provider.behave = lambda sent: error(500) if len(provider.calls) < 4 else None
    python(f"{call}g({item_id!r})", env)
    assert len(provider.calls) == 4


def test_the_broker_holds_a_bounded_number_of_messages_without_ids(db: Connection, broker: CeleryBroker) -> None:
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT 'context_items', gen_random_uuid()::text, 1, 'bulk' FROM generate_series(1, 10000)"
    )
    dispatch = Dispatch(broker, batch_size=100, max_messages=16)
    assert dispatch.top_up(db) == {"bulk": 16}
    assert dispatch.top_up(db) == {}
    assert broker.depth(Lane.BULK) == 16
    assert broker.depth(Lane.LIVE) == 0
    import json
    from base64 import b64decode

    import redis

    with redis.Redis.from_url(broker.app.conf.broker_url) as client:
        bodies = [json.loads(b64decode(json.loads(m)["body"])) for m in client.lrange("reindexer.bulk", 0, -1)]
    assert all(body[:2] == [["bulk"], {}] for body in bodies)


def test_dispatch_sends_as_many_messages_as_there_are_batches(db: Connection, broker: CeleryBroker) -> None:
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT 'context_items', n::text, 1, 'live' FROM generate_series(1, 201) n"
    )
    assert Dispatch(broker, batch_size=100, max_messages=16).top_up(db) == {"live": 3}


def test_edits_one_by_one_fill_no_queue_from_which_nobody_takes(broker: CeleryBroker) -> None:
    dispatch = Dispatch(broker, batch_size=100, max_messages=3)
    depths = []
    for _ in range(6):
        dispatch.announce({Lane.LIVE: 1, Lane.BULK: 0})
        depths.append(broker.depth(Lane.LIVE))
        time.sleep(1.5 * TAKEN_S)
    assert depths == [1, 2, 3, 3, 3, 3]
    assert broker.depth(Lane.BULK) == 0


def test_an_edit_sends_no_second_message_while_the_first_is_on_its_way(broker: CeleryBroker) -> None:
    dispatch = Dispatch(broker, batch_size=100, max_messages=16)
    for _ in range(3):
        dispatch.announce({Lane.LIVE: 1, Lane.BULK: 0})
    assert broker.depth(Lane.LIVE) == 1
    for _ in range(2):
        dispatch.announce({Lane.LIVE: 0, Lane.BULK: 250})
    assert broker.depth(Lane.BULK) == 3


def test_a_worker_without_migrations_ends_with_one_line_and_code_two(servers: object, env: Mapping[str, str]) -> None:
    import psycopg

    admin = psycopg.conninfo.make_conninfo(env["DATABASE_URL"], dbname="postgres")
    command = [
        *forked_python(),
        "celery",
        "-A",
        "reindexer.celery_app",
        "worker",
        "-Q",
        "reindexer.live,reindexer.bulk",
    ]
    done = subprocess.run(
        command, env={**env, "DATABASE_URL": admin}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "reindexer worker: the database has no reindexer schema; run `reindexer migrate`" in done.stderr
    assert "Traceback" not in done.stderr
