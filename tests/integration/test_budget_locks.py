"""Budgets whose rows somebody else has locked: nobody waits for long, and nothing is taken for what it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from reindexer import budgets, wiring
from reindexer.backfills import runs
from reindexer.core.errors import NotAsked
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.spend import Charged
from reindexer.embedding.purse import Purse
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import fill, insert, work
from tests.support.spending import in_table

PRICE = 100_000.0
CHARGED = Charged("context_items", "account", "model", PRICE)


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    return {**env, "REINDEXER_PRICE_PER_MILLION_TOKENS": str(PRICE), "REINDEXER_POSTGRES_TIMEOUT_S": "1"}


@pytest.fixture
def purse(settings: Settings) -> Iterator[Purse]:
    made = wiring.purse(settings)
    yield made
    made.close()


def allow(db: Connection, usd: float, source: str = "") -> None:
    budgets.set_budget(db, who="test", kind="indexing", period="day", usd=usd, source=source, stops_edits=True)


def use(purse: Purse, tokens: int) -> None:
    reserved = purse.reserve(CHARGED, "backfill", tokens)
    assert reserved is not None
    reserved.counted(tokens)


@contextmanager
def locked(database: str) -> Iterator[None]:
    """A user's transaction holds the budgets, for a minute at most."""
    with psycopg.connect(database) as other:
        other.execute("SET idle_in_transaction_session_timeout = '60s'")
        other.execute("SELECT FROM reindexer.budget FOR UPDATE")
        yield


def test_a_reservation_that_waited_too_long_costs_nothing(db: Connection, purse: Purse, database: str) -> None:
    allow(db, 1000.0)
    use(purse, 5)
    purse.settle()
    reserved = purse.reserve(CHARGED, "backfill", 20)
    assert reserved is not None
    began = time.monotonic()
    with locked(database), pytest.raises(NotAsked, match="timeout"):
        use(purse, 5000)
    assert time.monotonic() - began < 5
    reserved.counted(2)
    use(purse, 100)
    purse.close()
    assert in_table(db) == (107, 0, 0)


def test_items_use_no_attempt_and_the_provider_is_not_thought_to_answer(
    db: Connection, worker: Worker, database: str, provider: FakeProvider
) -> None:
    allow(db, 1000.0)
    for number in range(3):
        insert(db, f"number {number}")
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, account, failures, reason, wait_s)"
        " SELECT 'provider', account, 2, 'it was away', 1 FROM reindexer.generation"
    )
    with locked(database):
        work(db, worker)
        assert not provider.calls
        assert db.execute("SELECT DISTINCT attempts, marked FROM reindexer.due").fetchall() == [(0, True)]
        assert db.execute("SELECT failures FROM reindexer.breaker").fetchall() == [(2,)]


def test_the_listener_waits_for_nobody(db: Connection, database: str, purse: Purse) -> None:
    fill(db)
    allow(db, 10.0)
    runs.start(db, CONTEXT_ITEMS, who="test", force=True, max_usd=50.0)
    db.execute("UPDATE reindexer.run SET finished_at = now()")
    use(purse, 99)
    purse.close()
    db.execute("UPDATE reindexer.budget SET closed_at = now(), usd = usd + 1")
    db.execute("SET lock_timeout = '500ms'")
    with locked(database):
        budgets.reopen(db)
        budgets.tell_nearly_used(db)
        assert [(each.period, each.is_closed) for each in budgets.all_budgets(db)] == [("day", True), ("run", True)]
    budgets.reopen(db)
    budgets.tell_nearly_used(db)
    assert [(each.period, each.is_closed) for each in budgets.all_budgets(db)] == [("day", False)]


@pytest.mark.parametrize("change", [budgets.reopen, budgets.tell_nearly_used])
def test_the_listener_and_a_reservation_do_not_deadlock(
    db: Connection, database: str, purse: Purse, change: Callable[[Connection], None]
) -> None:
    allow(db, 10.0, source="context_items")
    allow(db, 10.0)
    use(purse, 90)
    purse.close()
    for source in ("context_items", ""):  # in this order they are in the table
        db.execute("UPDATE reindexer.budget SET closed_at = now() WHERE source = %s", [source])
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'changing' AND wait_event_type = 'Lock'"
    with psycopg.connect(database) as reserving, connect(database, application_name="changing") as changing:
        reserving.execute("SELECT FROM reindexer.budget WHERE source = '' FOR UPDATE")
        with ThreadPoolExecutor(1) as pool:
            changed = pool.submit(change, changing)
            eventually(lambda: changed.done() or db.execute(waiting).fetchone() is not None, within=5)
            reserving.execute("SELECT FROM reindexer.budget WHERE source = 'context_items' FOR UPDATE")
            reserving.rollback()
            changed.result()
