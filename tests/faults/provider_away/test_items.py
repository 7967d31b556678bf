"""A provider that does not answer at all: the breaker opens, and items wait unharmed until it is back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

import httpx
import pytest

from reindexer.core.errors import ItemFailed
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.monitoring.status import item
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.breaker import open_breakers
from reindexer.queue.dead_letters import heal
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.testing.provider import Call, FakeProvider, Reply, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually, seconds_until
from reindexer.wiring import embedder_of
from reindexer.worker.claim_state import LEFT_ALONE
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import idle, insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.outages import attempts, ready
from tests.support.processes import Processes

KEY = {"X-API-Key": "test-admin-key"}


def test_it_opens_at_the_third_failure_and_what_is_not_in_flight_burns_no_attempt_and_says_why(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, proxy: Proxy
) -> None:
    ids = [insert(db, f"text {n}") for n in range(40)]
    proxy.mode = Mode.REFUSE
    worker.limits = WorkLimits(batch_size=10)
    worker.policy = replace(worker.policy, base_s=60.0)  # what was tried comes again after all this
    drain(db)
    for failures in (1, 2):
        worker.run_lane(Lane.LIVE, budget_s=0)
        row = db.execute("SELECT failures, opened_at FROM reindexer.breaker").fetchone()
        assert row == (failures, None), "it goes on until the third"
    worker.run_lane(Lane.LIVE, budget_s=0)
    (breaker,) = open_breakers(db)
    assert breaker.failures == 3
    assert sum(attempts(db)) == 30
    assert attempts(db).count(0) >= 10
    waiting = db.execute("SELECT item_id FROM reindexer.due WHERE attempts = 0").fetchone()
    assert waiting is not None
    assert status(db, waiting[0]) == ("PENDING", None)
    db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
    assert worker.run_lane(Lane.LIVE) == 0
    assert sum(attempts(db)) == 30
    assert status(db, waiting[0]) == ("PENDING", LEFT_ALONE)
    known = item(db, CONTEXT_ITEMS, waiting[0], embedding_spec_of(CONTEXT_ITEMS, worker.embedder_of(CONTEXT_ITEMS)))
    assert known is not None
    assert known.waits_for is not None
    assert "the embedding provider, which is left alone but for a probe now and then: " in known.waits_for
    assert "can't be reached" in known.waits_for
    now = state_of_everything(db)
    assert now.pending == len(ids)
    assert now.breakers["provider"].state == "open"
    assert "can't be reached" in now.breakers["provider"].reason
    assert not provider.calls


def test_a_success_closes_it_and_what_failed_for_a_passing_cause_heals_at_once(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    failed_id = insert(db, "fails first")
    drain(db)
    proxy.mode = Mode.REFUSE
    while status(db, failed_id) != ("FAILED", "the embedding provider can't be reached: ConnectError"):
        ready(db)
        worker.run_lane(Lane.LIVE, budget_s=0)
    rejected_id = insert(db, "rejected for good")
    db.execute(
        "INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token)"
        " VALUES ('context_items', %s, 1, 'FAILED', 1)", [rejected_id]
    )  # fmt: skip
    db.execute("DELETE FROM reindexer.outbox")
    insert(db, "text")
    db.execute("UPDATE reindexer.ledger SET heal_at = now() + interval '15 minutes' WHERE heal_at IS NOT NULL")
    assert heal(db) == 0
    proxy.mode = Mode.PASS
    ready(db)
    work(db, worker)
    assert open_breakers(db) == []
    assert heal(db) == 1
    work(db, worker)
    assert index.holds(failed_id, vector_of("fails first"))
    assert status(db, rejected_id) == ("FAILED", None)


def test_an_item_alone_ends_failed_after_its_tries_and_heals_soon_after_the_return_although_nothing_else_is_due(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    task_id = str(uuid.uuid4())
    drain(db)
    requests.record(db, "context_items", [requests.ReindexRequest(task_id, item_id)], lane=Lane.BULK, sent=True)
    proxy.mode = Mode.REFUSE

    def task_failed() -> bool:
        worker.run_item("context_items", item_id)
        state = requests.task_state(db, task_id)
        return state is not None and state.state == "FAILURE"

    took = seconds_until(task_failed, within=20)
    assert took > 0.3, "its waits, and those of the breaker"
    assert db.execute("SELECT outcome, attempts FROM reindexer.ledger").fetchone() == ("FAILED", 4)
    db.execute("UPDATE reindexer.ledger SET heal_at = now() + interval '15 minutes'")
    assert heal(db) == 0, "not before the breaker may be probed"
    proxy.mode = Mode.PASS

    def healed() -> bool:
        heal(db)
        work(db, worker)
        return status(db, item_id) == ("COMPLETED", None)

    eventually(healed, within=10, every=0.05)
    assert open_breakers(db) == []


def test_the_synchronous_call_ends_with_the_reason_too(
    db: Connection,
    env: Mapping[str, str],
    proxy: Proxy,
    index: IndexReader,
    provider: FakeProvider,
    embed_here: Callable[..., None],
) -> None:
    item_id = insert(db, "text")
    proxy.mode = Mode.REFUSE
    with pytest.raises(ItemFailed, match="the embedding provider can't be reached"):
        embed_here(item_id)
    assert open_breakers(db)
    proxy.mode = Mode.PASS
    embed_here(item_id)
    assert index.holds(item_id, vector_of("text"))
    assert open_breakers(db) == []


@pytest.mark.parametrize("mode", [Mode.REFUSE, pytest.param(Mode.STALL, marks=pytest.mark.long)])
@pytest.mark.long
def test_ten_minutes_away_with_5000_items_due_are_few_calls_and_nothing_burnt_and_all_converges_within_a_minute(
    db: Connection, processes: Processes, proxy: Proxy, index: IndexReader, provider: FakeProvider, mode: Mode
) -> None:
    """With times shortened to a sixtieth."""
    processes.env |= {"REINDEXER_BATCH_SIZE": "100", "REINDEXER_EMBEDDING_TIMEOUT_S": "0.5"}
    processes.env["REINDEXER_CLAIMS_IN_FLIGHT"] = "1"  # in all five: one in each of two processes; two threads and one
    processes.listener()
    processes.worker()
    processes.worker(pool="threads")
    _, api = processes.api()
    eventually(lambda: httpx.get(f"{api}/readyz", timeout=10).status_code == 200, within=20)
    proxy.mode = mode
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 5000) n")
    started = time.monotonic()
    eventually(lambda: open_breakers(db), within=20)
    ready_answer = httpx.get(f"{api}/readyz", timeout=10).json()
    assert "no answer from provider" in ready_answer["checks"]["breakers"]
    assert httpx.get(f"{api}/admin/status", headers=KEY).json()["breakers"]["provider"]["state"] == "open"
    eventually(lambda: time.monotonic() - started > 10, every=0.1)
    row = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE attempts > 0), max(attempts) FROM reindexer.due"
    ).fetchone()
    assert row is not None
    due, touched, _ = row
    failures = db.execute("SELECT failures FROM reindexer.breaker").fetchone()
    print(f"{mode}: {touched} of {due} items tried, {failures} calls, ", end="")
    assert due >= 4990
    assert failures is not None
    assert failures[0] <= 40
    assert touched <= 800, "what was in flight before it opened, and the probes"
    proxy.mode = Mode.PASS
    took = seconds_until(lambda: idle(db) and index.count() == 5000, within=60)
    print(f"converged {took:.1f} s after its return")
    assert db.execute("SELECT DISTINCT outcome FROM reindexer.ledger").fetchall() == [("COMPLETED",)]
    assert open_breakers(db) == []
    assert all(
        index.holds(str(i), vector_of(text))
        for i, text in db.execute("SELECT id, content FROM context_items LIMIT 100")
    )


def test_no_breaker_is_written_while_all_answers(db: Connection, worker: Worker, index: IndexReader) -> None:
    for n in range(5):
        insert(db, f"text {n}")
        work(db, worker)
    written = db.execute(
        "SELECT pg_stat_force_next_flush(), n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
        " WHERE relname = 'breaker' AND schemaname = 'reindexer'"
    ).fetchone()
    assert written is not None
    assert written[1] == 0


def test_each_claim_asks_again_only_what_did_not_answer(
    db: Connection, worker: Worker, settings: Settings, provider: FakeProvider, proxy: Proxy, index: IndexReader
) -> None:
    """A claim that needs several requests gives up at the first that finds nobody."""
    worker.embedder_of = embedder_of(settings.model_copy(update={"embedding_max_inputs": 2}))
    for n in range(10):
        insert(db, f"text {n}")

    def goes_away(call: Call) -> Reply:
        proxy.mode = Mode.REFUSE
        return Reply(200, cut_at=0)

    provider.behave = goes_away
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert len(provider.calls) == 1
    assert db.execute("SELECT failures FROM reindexer.breaker").fetchone() == (1,)
    assert attempts(db) == [0] * 8 + [1] * 2, "only what was asked for costs an attempt"
