"""How soon a deletion or a new payload is in Qdrant while 5,000 texts and a backfill wait for a provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import pytest

from reindexer.backfills import runs
from reindexer.postgres.connect import Connection
from reindexer.queue.breaker import open_breakers
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually, seconds_until
from tests.support.flow import idle
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

MOST_S = 0.2
REVOKED = 50
TEXTS = 5_000


@pytest.fixture
def proxy(provider: FakeProvider) -> Iterator[Proxy]:
    """Stands before the provider."""
    with Proxy.before(provider.url) as running:
        yield running


@pytest.fixture
def env(env: Mapping[str, str], proxy: Proxy, provider: FakeProvider) -> Mapping[str, str]:
    """A sixtieth of the usual waits."""
    return {**env, "OPENAI_BASE_URL": proxy.instead(provider.url), "REINDEXER_RETRY_MAX_S": "1"}


def many_texts_wait(db: Connection) -> None:
    """Edits in the lane of edits, and a backfill of rows that no trigger saw."""
    db.execute("SET session_replication_role = replica")
    db.execute("INSERT INTO context_items (content) SELECT 'backfilled ' || n FROM generate_series(1, 3000) n")
    db.execute("RESET session_replication_role")
    for first in range(0, TEXTS, 500):
        db.execute(
            "INSERT INTO context_items (title, content) SELECT 'waits', 'text ' || n FROM generate_series(%s::int, %s) n",
            [first + 1, first + 500],
        )
    runs.start(db, find_source(db, "context_items"), who="test")


def unseen(db: Connection) -> list[str]:
    """Edits that nobody has looked at: a burst of them takes its time, whatever the provider does."""
    query = "SELECT item_id FROM reindexer.due WHERE lane = 'live' AND NOT marked"
    return [i for (i,) in db.execute(query)] or [i for (i,) in db.execute("SELECT item_id FROM reindexer.outbox")]


def in_the_backfill(db: Connection) -> list[str]:
    """Of the rows that are edited below: an edit of a row that a batch holds waits until the batch is settled."""
    query = """SELECT item_id FROM reindexer.due JOIN context_items ON id::text = item_id WHERE title = 'kept'
               UNION ALL SELECT state FROM reindexer.run WHERE state IN ('rows', 'ledger')"""
    return [i for (i,) in db.execute(query)]


def is_gone(index: IndexReader, item_id: str) -> bool:
    return index.payload(item_id) is None


def is_paid(index: IndexReader, item_id: str) -> bool:
    return (index.payload(item_id) or {}).get("metadata") == {"tenant": "b"}


def percentile_99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


@pytest.mark.alone
@pytest.mark.parametrize("cause", ["away", "at its limit"])
def test_while_5000_texts_and_a_backfill_wait_for_the_provider_deletions_and_payloads_are_in_qdrant_within_200_ms(
    db: Connection, processes: Processes, proxy: Proxy, index: IndexReader, cause: str
) -> None:
    db.execute(
        "INSERT INTO context_items (title, content) SELECT 'kept', 'text ' || n FROM generate_series(1, %s) n",
        [2 * REVOKED],
    )
    if cause == "at its limit":
        processes.env["REINDEXER_REQUESTS_PER_MINUTE"] = "20"
    processes.listener()
    processes.worker()
    eventually(lambda: idle(db) and index.count() == 2 * REVOKED)
    if cause == "away":
        proxy.mode = Mode.REFUSE
    many_texts_wait(db)
    if cause == "away":
        eventually(lambda: open_breakers(db))
    eventually(lambda: not unseen(db), within=60)
    eventually(lambda: not in_the_backfill(db), within=60)
    ids = [str(i) for (i,) in db.execute("SELECT id FROM context_items WHERE title = 'kept' ORDER BY id")]
    deletions, payloads = list[float](), list[float]()
    for deleted, paid in zip(ids[::2], ids[1::2], strict=True):
        db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
        deletions.append(seconds_until(partial(is_gone, index, deleted), within=20))
        db.execute(
            """UPDATE context_items SET content = content || ', other', metadata = '{"tenant": "b"}' WHERE id = %s""",
            [paid],
        )
        payloads.append(seconds_until(partial(is_paid, index, paid), within=20))
    waiting = db.execute("SELECT count(*) FROM reindexer.due").fetchone()
    print(f"{cause}: p99 {percentile_99(deletions):.3f} s and {percentile_99(payloads):.3f} s, {waiting} wait")
    assert waiting is not None
    assert waiting[0] >= TEXTS
    assert percentile_99(deletions) <= MOST_S
    assert percentile_99(payloads) <= MOST_S
