"""What processes spend together: to the token while nobody is killed, and never below what the provider counted."""

from __future__ import annotations

import time

import pytest
import redis

from reindexer import budgets
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from tests.support.claims import lose_leases
from tests.support.flow import idle
from tests.support.processes import Processes
from tests.support.spending import in_table

PRICE = 100.0
"""Dollars per million tokens."""
ROWS = (
    "INSERT INTO context_items (title, content) SELECT n::text, 'text ' || n FROM generate_series(%s::int, %s::int) n"
)


def write(db: Connection, first: int, last: int) -> None:
    """Edits and a backfill at once."""
    db.execute(ROWS, [first, last - 20])
    for n in range(last - 20, last):
        db.execute(ROWS, [n + 1, n + 1])


def budget(db: Connection, usd: float | None) -> None:
    budgets.set_budget(db, who="test", kind="indexing", period="day", usd=usd, stops_edits=True)


@pytest.mark.long
def test_eight_processes_account_to_the_token_and_one_that_is_killed_at_its_most(
    db: Connection, processes: Processes, provider: FakeProvider, redis_url: str
) -> None:
    processes.env |= {"REINDEXER_BATCH_SIZE": "32"}
    listener = processes.listener()
    workers = [processes.start_worker("-n", f"w{n}@%h", pool="prefork", concurrency=2) for n in range(4)]
    write(db, 1, 1400)
    eventually(lambda: idle(db), within=60)
    for each in workers:
        processes.children.stop(each)
    assert in_table(db) == (provider.tokens, 0, 0)

    counted, provider.latency_s = provider.tokens, 0.2
    workers = [processes.start_worker("-n", f"v{n}@%h", pool="prefork", concurrency=2) for n in range(2)]
    write(db, 1401, 1500)
    eventually(lambda: provider.tokens > counted, within=30)
    assert sum(in_table(db)) >= provider.tokens, "what is set aside counts"
    processes.children.kill(workers.pop(0))
    provider.latency_s = 0.0
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    processes.children.kill(listener)
    lose_leases(db)
    # As if two minutes had passed, for the others' blocks, too: what these asked meanwhile is counted with them.
    db.execute("UPDATE reindexer.spend_reservation SET renewed_at = renewed_at - interval '2 minutes'")
    processes.listener()  # at its first look it counts them
    eventually(lambda: idle(db), within=90)
    assert sum(in_table(db)) >= provider.tokens
    for each in workers:
        processes.children.stop(each)
    tokens, unconfirmed, aside = in_table(db)
    assert aside == 0
    assert unconfirmed > 0
    assert tokens + unconfirmed >= provider.tokens


@pytest.mark.long
def test_eight_processes_that_are_killed_spend_no_more_than_the_budget_and_go_on_within_5_s_of_a_raise(
    db: Connection, processes: Processes, provider: FakeProvider, redis_url: str
) -> None:
    processes.env |= {"REINDEXER_BATCH_SIZE": "32", "REINDEXER_PRICE_PER_MILLION_TOKENS": str(PRICE)}

    def billed() -> float:
        return provider.tokens * PRICE / 1e6

    def spends_no_more() -> bool:
        """Whether nothing is asked for a while, because the budget is used up."""
        counted = provider.tokens
        time.sleep(7)
        return bool(status(db).budgets) and provider.tokens == counted

    budget(db, 0.1)
    listener = processes.listener()
    workers = [processes.start_worker("-n", f"w{n}@%h", pool="prefork", concurrency=2) for n in range(4)]
    write(db, 1, 1400)
    eventually(spends_no_more, within=90)
    assert 0.05 < billed() <= 0.1
    assert in_table(db)[:2] == (provider.tokens, 0), "without a kill the account is equal to the bill"

    provider.latency_s = 0.2
    budget(db, 0.2)
    counted, raised = provider.tokens, time.monotonic()
    eventually(lambda: provider.tokens > counted, within=5)
    print(f"went on {time.monotonic() - raised:.1f} s after the raise")
    processes.children.kill(workers.pop(0))
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    processes.children.kill(listener)
    processes.listener()
    provider.latency_s = 0.0
    eventually(spends_no_more, within=90)
    assert 0.1 < billed() <= 0.2
    print(f"billed {billed():.4f} of 0.2 dollars")

    budget(db, None)
    lose_leases(db)
    eventually(lambda: idle(db), within=90)
