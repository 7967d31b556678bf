"""Pool processes that die below a worker that lives: killed for want of memory, or by an input that no process survives."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Sequence

import psutil
import pytest
from celery.result import AsyncResult

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.errors import ItemFailed
from reindexer.core.lanes import Lane
from reindexer.embedded.children import Child
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import requests
from reindexer.testing.provider import Call, FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from tests.support.flow import idle, insert, status
from tests.support.index_reader import IndexReader
from tests.support.processes import TASK, Processes


def pool_processes(worker: Child) -> Sequence[psutil.Process]:
    return psutil.Process(worker.process.pid).children()


def kill_pool(worker: Child) -> None:
    """SIGKILL to the pool's only process, as the kernel does that has no memory left; and its lease has passed."""
    (child,) = pool_processes(worker)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)


def lose_claims(db: Connection) -> None:
    """As if the leases of all claims had passed. To be called while no live process holds one."""
    db.execute(
        "UPDATE reindexer.due SET lease_until = now() - interval '1 s', not_before = now()"
        " WHERE lease_until IS NOT NULL"
    )


@pytest.mark.long
def test_a_pool_process_killed_for_want_of_memory_is_replaced_and_nobody_is_told_of_a_failure(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, broker: CeleryBroker
) -> None:
    worker = processes.worker(concurrency=1, REINDEXER_LEASE_S="4")
    (before,) = pool_processes(worker)
    item_id, task_id = insert(db, "text"), str(uuid.uuid4())

    def out_of_memory_once(call: Call) -> None:
        if len(provider.calls) == 1:
            kill_pool(worker)

    provider.behave = out_of_memory_once
    requests.record(db, "context_items", [requests.ReindexRequest(task_id, item_id)], lane=Lane.BULK, sent=True)
    broker.send_requests([(task_id, "context_items", item_id)])
    result, states = AsyncResult(task_id, app=broker.app), set()

    def succeeded() -> bool:
        states.add(result.state)
        return bool(result.state == "SUCCESS")

    eventually(lambda: succeeded() or provider.calls, within=20)
    processes.listener()  # only now: it was the request's own message that died with the process
    eventually(succeeded, within=40)
    assert states <= {"PENDING", "SUCCESS"}
    eventually(lambda: idle(db))
    assert index.holds(item_id, vector_of("text"))
    assert len(provider.calls) == 2
    assert worker.running()
    (after,) = pool_processes(worker)
    assert after.pid != before.pid


@pytest.mark.long
def test_a_request_whose_process_died_before_it_was_written_down_fails(
    db: Connection, database: str, processes: Processes, index: IndexReader, broker: CeleryBroker
) -> None:
    """Its message is gone and nobody will answer it."""
    worker, task_id = processes.worker(concurrency=1), str(uuid.uuid4())
    with connect(database, application_name="locks") as other, other.transaction():
        other.execute("LOCK TABLE reindexer.request IN ACCESS EXCLUSIVE MODE")
        broker.app.send_task(TASK, (str(uuid.uuid4()),), task_id=task_id, queue="reindexer.bulk")
        waits = "SELECT count(*) FROM pg_locks WHERE relation = 'reindexer.request'::regclass AND NOT granted"
        eventually(lambda: db.execute(waits).fetchone() == (1,), within=20)
        kill_pool(worker)
    eventually(lambda: AsyncResult(task_id, app=broker.app).state == "FAILURE", within=20)


@pytest.mark.long
def test_an_input_that_kills_its_worker_is_alone_after_the_first_time_and_fails_with_that_reason(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, broker: CeleryBroker
) -> None:
    processes.listener()
    worker = processes.worker(concurrency=1, REINDEXER_MAX_RETRIES="2")

    def killer(call: Call) -> None:
        if "killer" in call.inputs:
            kill_pool(worker)
            lose_claims(db)

    provider.behave = killer
    with db.transaction():
        ids = {text: insert(db, text) for text in (*(f"text {n}" for n in range(5)), "killer")}
    eventually(lambda: (status(db, ids["killer"]) or ("",))[0] == "FAILED", within=60)
    assert status(db, ids["killer"]) == ("FAILED", "its worker died each time it was tried")
    with_killer = [call.inputs for call in provider.calls if "killer" in call.inputs]
    assert [len(inputs) for inputs in with_killer] == [6, 1, 1]
    eventually(lambda: idle(db))
    for text, item_id in ids.items():
        if text != "killer":
            assert index.holds(item_id, vector_of(text))
            assert status(db, item_id) == ("COMPLETED", None)
            assert provider.inputs.count(text) == 2
    with pytest.raises(ItemFailed, match="its worker died each time"):
        broker.app.send_task(TASK, (ids["killer"],), queue="reindexer.bulk").get(timeout=40)
