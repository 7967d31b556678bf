"""A provider that does not answer at all: the breaker opens, one item at a time tries it, the others wait unharmed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest
import redis

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.errors import ItemFailed
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.monitoring.status import item
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import requests
from reindexer.queue.breaker import HealthRecorder, open_breakers, prune_breakers, record
from reindexer.queue.claim import Claim, claim_batch, claim_item
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.drain import drain
from reindexer.queue.maintenance import heal
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


@pytest.fixture
def proxy(provider: FakeProvider) -> Iterator[Proxy]:
    """Stands before the provider."""
    with Proxy.before(provider.url) as running:
        yield running


@pytest.fixture
def env(env: Mapping[str, str], proxy: Proxy, provider: FakeProvider) -> Mapping[str, str]:
    """A sixtieth of the usual waits: probes come after 0.05, 0.1, 0.2 … 0.5 s."""
    return {**env, "OPENAI_BASE_URL": proxy.instead(provider.url), "REINDEXER_RETRY_MAX_S": "1"}


def mark_all(db: Connection, worker: Worker) -> None:
    """All that waits has been looked at, and may be the probe."""
    db.execute("UPDATE reindexer.breaker SET probe_at = clock_timestamp() + interval '1 hour'")
    ready(db, probe=False)
    worker.run_lane("live", budget_s=5)
    ready(db)


def open_it(db: Connection, worker: Worker, proxy: Proxy, *, small: int = 1) -> None:
    """Fail three times, with claims of `small` items."""
    proxy.mode = Mode.REFUSE
    worker.limits = WorkLimits(batch_size=small, provider_timeout_s=1.0)
    drain(db)
    for _ in range(3):
        ready(db)
        worker.run_lane("live", budget_s=0)
    assert [each.dependency for each in open_breakers(db)] == ["provider"]


def claim(connection: Connection, lane: str = "live") -> Claim | None:
    return claim_batch(connection, lane, 100, 60)


def test_it_opens_at_the_third_failure_and_what_is_not_in_flight_burns_no_attempt_and_says_why(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, proxy: Proxy
) -> None:
    ids = [insert(db, f"text {n}") for n in range(40)]
    proxy.mode = Mode.REFUSE
    worker.limits = WorkLimits(batch_size=10)
    drain(db)
    for failures in (1, 2):
        worker.run_lane("live", budget_s=0)
        row = db.execute("SELECT failures, opened_at FROM reindexer.breaker").fetchone()
        assert row == (failures, None), "it goes on until the third"
    worker.run_lane("live", budget_s=0)
    (breaker,) = open_breakers(db)
    assert breaker.failures == 3
    assert sum(attempts(db)) == 30
    assert attempts(db).count(0) >= 10
    waiting = db.execute("SELECT item_id FROM reindexer.due WHERE attempts = 0").fetchone()
    assert waiting is not None
    assert status(db, waiting[0]) == ("PENDING", None)
    db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
    assert worker.run_lane("live") == 0
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


def test_while_it_is_open_what_needs_it_is_not_claimed_nor_counted_as_ready_and_no_message_is_sent(
    db: Connection, worker: Worker, proxy: Proxy, broker: CeleryBroker, index: IndexReader, redis_url: str
) -> None:
    ids = [insert(db, f"text {n}") for n in range(10)]
    open_it(db, worker, proxy)
    requests.record(db, "context_items", [requests.ReindexRequest(str(uuid.uuid4()), ids[5])], lane="bulk", sent=True)
    db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
    work(db, worker)
    db.execute("UPDATE reindexer.due SET not_before = now()")
    assert claim(db) is None
    assert claim(db, "bulk") is None
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
            assert claim_batch(db, "live", 1, 60) is not None
            second = executor.submit(claim_batch, other, "live", 1, 60.0)
            eventually(lambda: _waits_for_a_lock(database))
        assert second.result(timeout=5) is None


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
        worker.run_lane("live", budget_s=0)
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


def test_a_success_closes_it_and_what_failed_for_a_passing_cause_heals_at_once(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    failed_id = insert(db, "fails first")
    drain(db)
    proxy.mode = Mode.REFUSE
    while status(db, failed_id) != ("FAILED", "the embedding provider can't be reached: ConnectError"):
        ready(db)
        worker.run_lane("live", budget_s=0)
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
    requests.record(db, "context_items", [requests.ReindexRequest(task_id, item_id)], lane="bulk", sent=True)
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
    worker.run_lane("live", budget_s=0)
    assert index.payload(item_id) is None, "a deletion needs no provider"
    assert db.execute("SELECT probe_at <= clock_timestamp() FROM reindexer.breaker").fetchone() == (True,)


def test_when_a_probe_dies_the_next_comes_when_its_lease_is_over(
    db: Connection, worker: Worker, proxy: Proxy, index: IndexReader
) -> None:
    for n in range(3):
        insert(db, f"text {n}")
    open_it(db, worker, proxy)
    mark_all(db, worker)
    assert claim_batch(db, "live", 10, 0.5) is not None
    assert claim(db) is None
    taken = eventually(lambda: claim(db), within=5)
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
    worker.run_lane("live", budget_s=0)
    assert len(provider.calls) == 1
    assert db.execute("SELECT failures FROM reindexer.breaker").fetchone() == (1,)
    assert attempts(db) == [0] * 8 + [1] * 2, "only what was asked for costs an attempt"
