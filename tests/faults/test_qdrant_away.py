"""Qdrant away, hanging, without its data, or with a reply that got lost."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import ItemFailed
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.breaker import open_breakers
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.outages import attempts, ready
from tests.support.processes import TASK, Processes

COLLECTION = "context_items__g1"
UPSERT = f"PUT /collections/{COLLECTION}/points?".encode()


@pytest.fixture
def env(env: Mapping[str, str], proxy: Proxy) -> Mapping[str, str]:
    """A sixtieth of the usual waits; one of Qdrant's answers may take a second."""
    return {
        **env,
        "QDRANT_URL": proxy.instead(env["QDRANT_URL"]),
        "REINDEXER_QDRANT_TIMEOUT_S": "1",
        "REINDEXER_RETRY_MAX_S": "1",
        "REINDEXER_RETRY_SCHEDULE_S": "1",
    }


@pytest.mark.long
def test_qdrant_away_past_all_retries_is_failed_with_the_reason_and_heals_by_itself(
    db: Connection, processes: Processes, broker: CeleryBroker, proxy: Proxy, index: IndexReader, provider: FakeProvider
) -> None:
    proxy.mode = Mode.REFUSE
    processes.listener()
    processes.worker()
    item_id = insert(db, "text")
    sent = broker.app.send_task(TASK, (item_id,), queue="reindexer.bulk")
    with pytest.raises(ItemFailed, match=r"Qdrant at .* does not answer"):
        sent.get(timeout=20)
    assert db.execute("SELECT outcome, attempts FROM reindexer.ledger").fetchone() == ("FAILED", 4)
    assert [each.dependency for each in open_breakers(db)] == ["qdrant"]
    assert provider.calls == [], "nobody pays for a vector that can't be written"
    proxy.mode = Mode.PASS
    eventually(lambda: status(db, item_id) == ("COMPLETED", None), within=30)
    assert index.holds(item_id, vector_of("text"))
    assert open_breakers(db) == []


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.CUT, Mode.STALL])
@pytest.mark.first(2)
def test_qdrant_that_goes_away_while_it_is_written_to_opens_the_breaker_and_no_vector_is_made_in_vain(
    db: Connection,
    settings: Settings,
    worker: Worker,
    proxy: Proxy,
    index: IndexReader,
    provider: FakeProvider,
    mode: Mode,
) -> None:
    other = make_worker(settings, None)
    insert(db, "first")
    work(db, worker)
    insert(db, "second")
    work(db, other)
    provider.calls.clear()
    worker.limits = other.limits = WorkLimits(batch_size=10, index_timeout_s=1.0)
    ids = [insert(db, f"text {n}") for n in range(50)]
    proxy.mode = mode
    drain(db)
    for each in (worker, other, other, worker):
        ready(db)
        each.run_lane(Lane.LIVE, budget_s=0)
    other.close()
    assert len(provider.calls) == 1, "after the first write that failed every worker asks Qdrant first"
    assert [each.dependency for each in open_breakers(db)] == ["qdrant"]
    assert attempts(db).count(0) >= 20
    proxy.mode = Mode.PASS
    ready(db)
    work(db, worker)
    ready(db)
    work(db, worker)
    assert all(index.holds(item_id, vector_of(f"text {n}")) for n, item_id in enumerate(ids))
    assert index.count() == 52


def test_a_lost_reply_to_a_write_that_qdrant_applied_is_done_again_and_leaves_nothing_twice(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    proxy.matching, proxy.mode = UPSERT, Mode.DROP_REPLY
    item_id = insert(db, "text")
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert proxy.lost_replies == 1
    assert index.holds(item_id, vector_of("text")), "Qdrant applied it"
    assert db.execute("SELECT attempts, doubtful FROM reindexer.due").fetchone() == (1, True)
    proxy.mode = Mode.PASS
    ready(db)
    work(db, worker)
    assert status(db, item_id) == ("COMPLETED", None)
    assert index.count() == 1


def test_after_a_lost_reply_a_text_that_goes_back_to_what_it_was_is_written_again(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    """A is indexed; B is written, and its reply lost; back to A, which looks unchanged, while Qdrant holds B."""
    item_id = insert(db, "A")
    work(db, worker)
    proxy.matching, proxy.mode = UPSERT, Mode.DROP_REPLY
    db.execute("UPDATE context_items SET content = 'B'")
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert index.holds(item_id, vector_of("B"))
    proxy.mode = Mode.PASS
    db.execute("UPDATE context_items SET content = 'A'")
    work(db, worker)
    ready(db)
    work(db, worker)
    assert index.holds(item_id, vector_of("A"))


def test_after_a_lost_reply_a_row_that_is_deleted_leaves_no_point(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    proxy.matching, proxy.mode = UPSERT, Mode.DROP_REPLY
    insert(db, "never settled")
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert index.count() == 1
    proxy.mode = Mode.PASS
    db.execute("DELETE FROM context_items")
    ready(db)
    work(db, worker)
    assert index.count() == 0


def finish_runs(db: Connection, worker: Worker) -> None:
    """What the listener and a worker do: queue all pages of open runs, and work on them."""
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    work(db, worker)


@pytest.mark.parametrize("force", [False, True], ids=["by itself", "while a backfill rebuilds it"])
def test_a_collection_that_is_lost_is_made_again_by_the_next_write_and_everything_is_written_to_it(
    db: Connection,
    worker: Worker,
    index: IndexReader,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    force: bool,
) -> None:
    from reindexer.backfills import runs

    ids = [insert(db, f"text {n}") for n in range(20)]
    work(db, worker)
    index.client.delete_collection(COLLECTION)
    if force:
        runs.start(db, find_source(db, "context_items"), who="test", force=True)
    late_id = insert(db, "the next write")
    work(db, worker)
    ready(db)
    work(db, worker)
    assert index.holds(late_id, vector_of("the next write"))
    assert "collection_lost" in capsys.readouterr().out + caplog.text  # where logs go depends on who configured them
    found = runs.recent(db, "context_items")
    assert [(run.kind, run.force) for run in found if run.is_open] == [("backfill" if force else "whole_source", True)]
    finish_runs(db, worker)
    assert index.count() == 21
    assert all(index.holds(item_id, vector_of(f"text {n}")) for n, item_id in enumerate(ids))


def test_a_lost_collection_whose_making_got_no_reply_is_filled_again(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    """As where a worker is killed when it has made it: nobody that looks later has made the collection that is there."""
    ids = [insert(db, f"text {n}") for n in range(20)]
    work(db, worker)
    index.client.delete_collection(COLLECTION)
    insert(db, "the next write")
    work(db, worker)
    proxy.matching, proxy.mode = f"PUT /collections/{COLLECTION}".encode(), Mode.DROP_REPLY
    ready(db)
    work(db, worker)
    assert proxy.lost_replies == 1
    assert index.count() == 0, "it is there"
    proxy.mode = Mode.PASS
    ready(db)
    work(db, worker)
    finish_runs(db, worker)
    assert index.count() == 21
    assert all(index.holds(item_id, vector_of(f"text {n}")) for n, item_id in enumerate(ids))


def test_what_is_written_to_a_collection_and_settled_after_it_was_lost_and_made_again_is_in_the_new_one(
    db: Connection, database: str, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    first_id = insert(db, "written before")
    drain(db)
    other = make_worker(settings, None)
    with connect(database, application_name="test") as blocking, ThreadPoolExecutor() as threads:
        with blocking.transaction():
            blocking.execute("LOCK TABLE reindexer.ledger IN EXCLUSIVE MODE")
            settles = threads.submit(worker.run_lane, Lane.LIVE, budget_s=0)
            eventually(lambda: index.count() == 1)
            index.client.delete_collection(COLLECTION)
            second_id = insert(db, "written after")
            drain(db)
            follows = threads.submit(other.run_lane, Lane.LIVE, budget_s=0)
            eventually(lambda: index.count() == 1)
        settles.result(10)
        follows.result(10)
    finish_runs(db, worker)
    other.close()
    assert index.holds(first_id, vector_of("written before"))
    assert index.holds(second_id, vector_of("written after"))


def test_what_was_written_again_already_is_not_embedded_once_more_by_the_run_that_rebuilds(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    """As where somebody repairs by reconcile at the same time."""
    ids = [insert(db, f"text {n}") for n in range(20)]
    work(db, worker)
    index.client.delete_collection(COLLECTION)
    insert(db, "the next write")
    work(db, worker)
    ready(db)
    work(db, worker)
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane, doubtful)"
        " SELECT 'context_items', id::text, 1, 'bulk', true FROM context_items WHERE id = ANY (%s::uuid[])",
        [ids[:10]],
    )
    work(db, worker)
    finish_runs(db, worker)
    assert index.count() == 21
    assert {provider.inputs.count(f"text {n}") for n in range(20)} == {2}


def test_the_first_collection_of_a_source_is_not_taken_for_a_lost_one(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    insert(db, "text")
    work(db, worker)
    assert db.execute("SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL").fetchone() == (0,)


def test_qdrant_lost_its_data_while_all_processes_run_and_all_of_it_comes_back(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    processes.listener()
    worker = processes.worker()
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 500) n")
    eventually(lambda: index.count() == 500, within=30)
    index.client.delete_collection(COLLECTION)
    item_id = insert(db, "the next write")
    eventually(lambda: index.count() == 501, within=30)
    assert index.holds(item_id, vector_of("the next write"))
    assert "collection_lost" in log_of(worker)


def test_a_request_whose_item_waits_for_qdrant_is_told_as_retry(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    from reindexer.queue import requests

    item_id, task_id = insert(db, "text"), str(uuid.uuid4())
    drain(db)
    requests.record(db, "context_items", [requests.ReindexRequest(task_id, item_id)], lane=Lane.BULK, sent=True)
    proxy.mode = Mode.REFUSE
    worker.run_item("context_items", item_id)
    state = requests.task_state(db, task_id)
    assert state is not None
    assert state.state == "RETRY"
    assert "Qdrant at" in str(state.waits_for)
