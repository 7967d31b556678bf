"""Budgets: nobody spends more, what costs nothing goes on, and what waits says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from api.main import create_app
from reindexer import audit, budgets, wiring
from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import MayNotSpend, OverBudget
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.spend import Charged, Purpose
from reindexer.embedding.purse import BLOCK, Purse
from reindexer.monitoring.status import status, why
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_item
from reindexer.queue.dead_letters import heal
from reindexer.queue.dispatch import Dispatch
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import fill, idle, insert, work
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.spending import in_table

PRICE = 100_000.0
"""Dollars per million tokens: ten cents a token, so that a text of a few letters costs a dollar."""
CHARGED = Charged("context_items", "account", "model", PRICE)
ROWS = "INSERT INTO context_items (title, content) SELECT n::text, 'text ' || n FROM generate_series(1, 1100) n"


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    return {**env, "REINDEXER_PRICE_PER_MILLION_TOKENS": str(PRICE)}


def allow(db: Connection, usd: float | None, **options: object) -> None:
    named = {"who": "test", "kind": "indexing", "period": "day", **options}
    budgets.set_budget(db, usd=usd, **named)  # type: ignore[arg-type]


def use(purse: Purse, tokens: int, purpose: Purpose = "backfill") -> None:
    reserved = purse.reserve(CHARGED, purpose, tokens)
    assert reserved is not None
    reserved.counted(tokens)


def dollars(db: Connection) -> float:
    row = db.execute(
        "SELECT (SELECT coalesce(sum(micro_dollars), 0) FROM reindexer.spend)"
        " + (SELECT coalesce(sum(tokens * price), 0) FROM reindexer.spend_reservation)"
    ).fetchone()
    assert row is not None
    return float(row[0]) / 1e6


@pytest.fixture
def purse(settings: Settings) -> Iterator[Purse]:
    made = wiring.purse(settings)
    yield made
    made.close()


def test_no_more_is_set_aside_than_a_budget_has(db: Connection, purse: Purse) -> None:
    allow(db, 10.0)
    use(purse, 60)
    with pytest.raises(OverBudget, match=r"the daily budget, \$10, is used up: over budget until 00:00 UTC"):
        use(purse, 41)
    use(purse, 40)
    with pytest.raises(OverBudget):
        use(purse, 1)
    assert dollars(db) == pytest.approx(10.0)
    purse.close()
    assert in_table(db) == (100, 0, 0)


def test_processes_that_reserve_at_once_do_not_exceed_it_together(db: Connection, settings: Settings) -> None:
    allow(db, 10.0)
    purses = [wiring.purse(settings) for _ in range(8)]
    together = threading.Barrier(len(purses))

    def spend(purse: Purse) -> int:
        together.wait()
        for number in range(40):
            try:
                use(purse, 3)
            except OverBudget:
                return number
        return 40

    with ThreadPoolExecutor(len(purses)) as pool:
        done = sum(pool.map(spend, purses))
    assert done * 0.3 <= 10.0
    assert done == 33
    for each in purses:
        each.close()


def test_who_reserves_sees_what_was_reserved_at_the_same_moment(
    db: Connection, settings: Settings, database: str
) -> None:
    allow(db, 10.0)
    purses = [wiring.purse(settings) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool, connect(database, application_name="test") as other:
        with other.transaction():
            other.execute(
                "LOCK TABLE reindexer.spend_reservation IN SHARE MODE"
            )  # so that both look before either writes
            reserving = [pool.submit(each.reserve, CHARGED, "backfill", 60) for each in purses]
            eventually(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (2,))
        refused = [each for each in reserving if isinstance(each.exception(), OverBudget)]
    assert len(refused) == 1, "both looked at the budget before the other had reserved"
    for each in purses:
        each.close()


def test_a_process_keeps_a_thousandth_of_a_budget_at_most_without_use(db: Connection, purse: Purse) -> None:
    use(purse, 1)
    assert in_table(db)[2] > BLOCK
    allow(db, 100_000.0)  # a thousandth are 1,000 tokens
    db.execute(f"ALTER TABLE reindexer.spend_reservation ADD CONSTRAINT no_refill CHECK (tokens <= {BLOCK + 1})")
    use(purse, BLOCK - BLOCK // 4)
    purse.settle()
    assert in_table(db) == (BLOCK - BLOCK // 4 + 1, 0, 0)
    db.execute("ALTER TABLE reindexer.spend_reservation DROP CONSTRAINT no_refill")
    spent = in_table(db)[0]
    use(purse, 5)
    assert in_table(db)[2] <= 1010
    purse.settle()
    assert in_table(db) == (spent + 5, 0, 1000)
    allow(db, None)
    use(purse, 5)
    purse.settle()
    purse.settle()
    assert in_table(db)[2] >= BLOCK


def test_backfills_stop_while_edits_and_all_that_costs_nothing_go_on(
    db: Connection, worker: Worker, settings: Settings, provider: FakeProvider, index: IndexReader
) -> None:
    fill(db)
    work(db, worker)
    worker.purse.close()
    spent = provider.tokens
    allow(db, dollars(db) + 30.0)
    db.execute(ROWS)
    work(db, worker)
    bulk = provider.tokens - spent
    assert 0 < bulk <= 300
    (told,) = status(db).budgets
    assert "over budget until 00:00 UTC" in told
    calls = len(provider.calls)
    work(db, worker)
    assert len(provider.calls) == calls, "claims leave alone what waits for it"
    tokens = db.execute("SELECT sum(token) FROM reindexer.due").fetchone()
    assert not work(db, worker)
    assert db.execute("SELECT sum(token) FROM reindexer.due").fetchone() == tokens, "nothing was claimed"

    # What costs nothing goes on: a deletion, a new payload.
    (waiting,) = db.execute("SELECT item_id FROM reindexer.due WHERE lane = 'bulk' AND marked LIMIT 1").fetchone() or ()
    known = why(db, CONTEXT_ITEMS, waiting, worker.embedder_of)
    assert known is not None
    assert known.waits_for == told
    assert known.attempts == 0
    db.execute("DELETE FROM context_items WHERE title = 'first'")
    db.execute("UPDATE context_items SET metadata = '{\"new\": 1}' WHERE title = 'second'")
    db.execute("DELETE FROM context_items WHERE id = %s", [waiting])
    edited = insert(db, "an edit")
    work(db, worker)
    assert len(provider.calls) == calls + 1
    assert index.payload(edited)
    assert why(db, CONTEXT_ITEMS, waiting, worker.embedder_of) is None or index.payload(waiting) is None
    db.execute("DELETE FROM context_items WHERE content LIKE 'text 1%'")
    work(db, worker)

    def rest_is_done() -> bool:
        work(db, worker)
        return idle(db)

    allow(db, 1e6)
    eventually(rest_is_done, within=10)  # a claim that begins at a watermark sees older items seconds later


def test_edits_stop_too_where_it_says_so(
    db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    allow(db, 0.0, stops_edits=True)
    (first, second) = insert(db, "one"), insert(db, "two")
    work(db, worker)
    assert not provider.calls
    db.execute("DELETE FROM context_items WHERE id = %s", [first])
    work(db, worker)
    known = why(db, CONTEXT_ITEMS, second, worker.embedder_of)
    assert known is not None
    assert known.waits_for is not None
    assert "over budget" in known.waits_for
    allow(db, 0.0, stops_edits=False)
    work(db, worker)
    assert index.payload(second)
    assert idle(db)


def test_a_request_is_made_smaller_where_a_part_of_it_is_within_the_budget(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    allow(db, 20.0, stops_edits=True)  # 200 tokens; ten texts of 40 letters may cost 440
    for number in range(10):
        insert(db, f"{number:040}")
    work(db, worker)
    assert provider.calls
    assert len(provider.calls[0].inputs) < 10
    worker.purse.settle()
    assert dollars(db) <= 20.0


@pytest.mark.parametrize("period", ["day", "month"])
def test_the_next_period_opens_it_again(db: Connection, purse: Purse, period: str) -> None:
    allow(db, 10.0, period=period)
    use(purse, 100)
    with pytest.raises(OverBudget):
        use(purse, 1)
    purse.close()
    budgets.reopen(db)
    assert [each.is_closed for each in budgets.all_budgets(db)] == [True]
    db.execute("UPDATE reindexer.spend SET day = day - 32")
    budgets.reopen(db)
    assert [each.is_closed for each in budgets.all_budgets(db)] == [False]
    use(purse, 60)


def test_it_opens_again_once_what_was_counted_at_its_most_is_settled(db: Connection, purse: Purse) -> None:
    allow(db, 10.0)
    reserved = purse.reserve(CHARGED, "backfill", 100)
    with pytest.raises(OverBudget):
        use(purse, 50)
    assert reserved is not None
    with db.transaction():
        db.execute("LOCK reindexer.spend_reservation IN SHARE ROW EXCLUSIVE MODE")  # nothing is settled by itself
        reserved.counted(25)
        budgets.reopen(db)
        assert budgets.all_budgets(db)[0].is_closed
    purse.settle()
    purse.settle()
    budgets.reopen(db)
    assert not budgets.all_budgets(db)[0].is_closed
    use(purse, 50)


def test_it_opens_again_for_parts_of_a_request_that_was_too_large(db: Connection, purse: Purse) -> None:
    allow(db, 10.0)
    with pytest.raises(OverBudget):
        use(purse, 150)
    reserved = purse.reserve(CHARGED, "backfill", 75)
    assert reserved is not None
    reserved.counted(10)
    purse.close()
    budgets.reopen(db)
    assert not budgets.all_budgets(db)[0].is_closed, "90 of 100 tokens are left"


def test_a_text_above_the_whole_budget_does_not_close_it_for_ever(db: Connection, purse: Purse) -> None:
    allow(db, 10.0)
    use(purse, 5)
    with pytest.raises(OverBudget):
        use(purse, 150)
    purse.close()
    budgets.reopen(db)
    assert budgets.all_budgets(db)[0].is_closed
    db.execute("UPDATE reindexer.spend SET day = day - 1")
    budgets.reopen(db)
    assert not budgets.all_budgets(db)[0].is_closed
    use(purse, 50)


def test_one_source_and_all_of_them_have_budgets_of_their_own(db: Connection, purse: Purse) -> None:
    allow(db, 5.0, source="context_items")
    allow(db, 8.0)
    other = Charged("notes", "account", "model", PRICE)
    use(purse, 50)
    with pytest.raises(OverBudget, match="of 'context_items'"):
        use(purse, 1)
    for tokens in (20, 10):
        reserved = purse.reserve(other, "backfill", tokens)
        assert reserved is not None
        reserved.counted(tokens)
    with pytest.raises(OverBudget, match=r"budget, \$8"):
        purse.reserve(other, "backfill", 1)


def test_no_message_is_sent_for_what_waits_for_a_budget(db: Connection, worker: Worker, broker: CeleryBroker) -> None:
    allow(db, 0.0)
    db.execute(ROWS)
    work(db, worker)
    assert db.execute("SELECT count(*) FROM reindexer.due WHERE marked").fetchone() == (1100,)
    assert not Dispatch(broker, batch_size=256, max_messages=4).top_up(db)
    allow(db, 1.0)
    assert Dispatch(broker, batch_size=256, max_messages=4).top_up(db) == {Lane.BULK: 4}


def test_the_listener_opens_it_again_when_the_day_is_over(
    db: Connection, worker: Worker, processes: Processes, provider: FakeProvider
) -> None:
    allow(db, 0.5, stops_edits=True)
    insert(db, "more than five tokens")
    work(db, worker)
    assert not provider.calls
    db.execute("UPDATE reindexer.budget SET usd = 100")  # as a new day would, without opening it
    processes.listener()
    eventually(lambda: not budgets.all_budgets(db)[0].is_closed, within=10)
    work(db, worker)
    assert provider.calls


def test_what_has_no_price_is_not_sent_where_a_budget_would_stop_it(db: Connection, purse: Purse) -> None:
    unpriced, free = Charged("notes", "a", "nobody-knows", None), Charged("free", "a", "local", 0.0)
    allow(db, 5.0)
    with pytest.raises(MayNotSpend, match="price of 'nobody-knows' is not known"):
        purse.reserve(unpriced, "backfill", 10)
    for charged, purpose in ((free, "backfill"), (unpriced, "edit"), (unpriced, "search")):
        reserved = purse.reserve(charged, purpose, 10)  # type: ignore[arg-type]
        assert reserved is not None
        reserved.counted(1)


def test_that_most_of_it_is_used_is_told_once(db: Connection, purse: Purse) -> None:
    allow(db, 10.0)
    use(purse, 79)
    with capture_logs() as logged:
        budgets.tell_nearly_used(db)
        use(purse, 2)
        budgets.tell_nearly_used(db)
        budgets.tell_nearly_used(db)
    assert [each["event"] for each in logged] == ["budget_nearly_used"]


def test_searches_are_counted_apart(db: Connection, settings: Settings, worker: Worker, provider: FakeProvider) -> None:
    fill(db)
    work(db, worker)
    allow(db, 0.0, stops_edits=True)
    headers, asked = {"X-API-Key": "test-admin-key"}, {"source": "context_items", "query": "text of first"}
    with TestClient(create_app(settings)) as client:
        assert client.post("/search", json=asked, headers=headers).status_code == 200
    allow(db, 0.0, kind="search")
    with TestClient(create_app(settings)) as client:
        calls = len(provider.calls)
        told = client.post("/search", json=asked | {"query": "another"}, headers=headers)
        assert told.status_code == 503
        assert "over budget until 00:00 UTC" in told.json()["detail"]
        assert len(provider.calls) == calls
        allow(db, 100.0, kind="search")
        assert client.post("/search", json=asked | {"query": "another"}, headers=headers).status_code == 200


def test_a_run_has_a_budget_of_its_own_that_ends_with_it(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    fill(db)
    work(db, worker)
    worker.purse.settle()
    run = runs.start(db, CONTEXT_ITEMS, who="test", force=True, max_usd=3.0)
    before = provider.tokens
    insert(db, "an edit")
    flow_of(db, worker)
    assert provider.tokens - before <= 30 + 8
    (told,) = status(db).budgets
    assert told == "the run's budget of 'context_items', $3, is used up: raise it, or cancel the run"
    budgets.tell_nearly_used(db)
    assert budgets.all_budgets(db)
    runs.cancel(db, run.id, who="test")
    budgets.tell_nearly_used(db)
    assert not budgets.all_budgets(db)


def test_edits_beside_a_run_with_a_budget_are_set_aside_in_blocks(db: Connection, purse: Purse) -> None:
    fill(db)
    runs.start(db, CONTEXT_ITEMS, who="test", force=True, max_usd=5.0)
    use(purse, 5, "edit")
    purse.settle()
    assert in_table(db)[2] >= BLOCK


def test_a_runs_budget_can_not_stop_edits(db: Connection, here: Callable[..., Done], env: Mapping[str, str]) -> None:
    fill(db)
    runs.start(db, CONTEXT_ITEMS, who="test", force=True, max_usd=5.0)
    done = here("budget", "--source", "context_items", "--run-usd", "6", "--stop-edits", env=env)
    assert done.returncode == 2
    assert "does not count edits" in done.stderr
    assert not any(each.stops_edits for each in budgets.all_budgets(db))


def test_what_waits_for_a_budget_does_not_probe_the_provider(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    allow(db, 0.0, stops_edits=True)
    waiting = insert(db, "one")
    work(db, worker)
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, account, failures, reason, wait_s, opened_at, probe_at)"
        " SELECT 'provider', account, 9, 'it was away', 1, now(), now() FROM reindexer.generation"
    )
    assert claim_item(db, "context_items", waiting, 10, 60.0) is None
    assert db.execute("SELECT probe_at <= now() FROM reindexer.breaker").fetchone() == (True,), "others may probe it"


def flow_of(db: Connection, worker: Worker) -> None:
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    work(db, worker)


def test_a_refusal_says_nothing_about_the_provider(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    allow(db, 0.0, stops_edits=True)
    insert(db, "one")
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, account, failures, reason, wait_s)"
        " SELECT 'provider', account, 2, 'it was away', 1 FROM reindexer.generation"
    )
    work(db, worker)
    assert not provider.calls
    assert db.execute("SELECT failures FROM reindexer.breaker").fetchall() == [(2,)]
    assert heal(db) == 0


def test_a_copy_of_the_database_asks_no_provider_until_it_is_adopted(
    db: Connection, worker: Worker, provider: FakeProvider, here: Callable[..., Done], env: Mapping[str, str],
    settings: Settings,
) -> None:  # fmt: skip
    fill(db)
    work(db, worker)
    worker.purse.close()
    calls = len(provider.calls)
    db.execute("UPDATE reindexer.spender SET identity = '1/2'")  # as it would be in a copy
    insert(db, "an edit")
    work(db, worker)
    assert len(provider.calls) == calls
    problem = status(db).sources["context_items"].problem
    assert problem is not None
    assert "this database is a copy of 1/2" in problem
    searching = wiring.query_embedder_of(settings)(CONTEXT_ITEMS)
    with pytest.raises(MayNotSpend):
        searching.embed(["a query"], timeout_s=5)

    done = here("adopt", "context_items", env=env)
    assert "no longer of 1/2" in done.stdout, done.stderr
    db.execute("UPDATE reindexer.due SET not_before = now()")
    work(db, worker)
    assert idle(db)
    assert len(provider.calls) == calls + 1
    entries = [each for each in audit.recent(db, source=None, limit=10) if each.action == "adopt"]
    assert [each.details["spends"] for each in entries if "spends" in each.details] == [True]


def test_command_and_api_set_it_and_tell_it(
    db: Connection, here: Callable[..., Done], env: Mapping[str, str], settings: Settings
) -> None:
    told = json.loads(
        here("budget", "--daily-usd", "5", "--monthly-usd", "100", "--stop-edits", "--json", env=env).stdout
    )
    assert [(each["period"], each["usd"], each["stops_edits"], each["state"]) for each in told["budgets"]] == [
        ("day", 5.0, True, "open"), ("month", 100.0, True, "open"),
    ]  # fmt: skip
    here("budget", "--daily-usd", "7", "--monthly-usd", "none", env=env)
    line = here("budget", env=env).stdout
    assert line.startswith("all\tindexing, edits too\tday\t7\t0.000000\t0%\t"), line
    headers = {"X-API-Key": "test-admin-key"}
    with TestClient(create_app(settings)) as client:
        put = client.put("/admin/budgets", json={"kind": "search", "period": "month", "usd": 9}, headers=headers)
        assert put.status_code == 200, put.text
        assert put.json() == client.get("/admin/budgets", headers=headers).json()
        assert [(each["kind"], each["usd"]) for each in put.json()["budgets"]] == [("indexing", 7.0), ("search", 9.0)]
        for wrong in ({"usd": -1}, {"usd": 1, "period": "run"}, {}, {"usd": 1e12}):
            assert client.put("/admin/budgets", json=wrong, headers=headers).status_code == 422
        missing = client.put("/admin/budgets", json={"source": "none", "usd": 1}, headers=headers)
        assert missing.status_code == 404
        scraped = client.get("/metrics").text
    assert 'reindexer_budget_dollars{kind="search",period="month",source=""} 9.0' in scraped
    assert [each.action for each in audit.recent(db, source=None, limit=10)].count("budget") == 5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--daily-usd", "five"], "'five' is no amount of dollars, nor `none`"),
        (["--daily-usd", "-1"], "from 0 to"),
        (["--daily-usd", "nan"], "from 0 to"),
        (["--searches"], "name an amount as well"),
        (["--daily-usd", "1", "--searches", "--stop-edits"], "--stop-edits is about indexing"),
        (["--daily-usd", "1", "--source", "notes"], "notes"),
    ],
)
def test_a_wrong_budget_is_told_in_one_line(
    db: Connection, here: Callable[..., Done], env: Mapping[str, str], arguments: list[str], why: str
) -> None:
    done = here("budget", *arguments, env=env)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert not budgets.all_budgets(db)
