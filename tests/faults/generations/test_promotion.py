"""A promotion beside deletions, requests and backfills: what is gone is not found again, and who asked is answered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from reindexer.backfills import runs
from reindexer.core.errors import GenerationConflict
from reindexer.core.lanes import Lane
from reindexer.generations import lifecycle, promotion
from reindexer.generations.lifecycle import drop_expired
from reindexer.generations.promotion import Terms
from reindexer.index.search import collection_of
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.drain import drain
from reindexer.queue.requests import ReindexRequest, record
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.generations import AT_ONCE, NAME, SOON, found, settle, states
from tests.support.index_reader import IndexReader

HELD_UP = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
WAITS = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


def test_a_row_whose_deletion_searches_show_already_is_never_found_again(ready: Connection, worker: Worker) -> None:
    """However young: here the deletion is a moment old, and the next generation has not got it."""
    ready.execute("DELETE FROM context_items WHERE title = 'second'")
    drain(ready)
    assert worker.run_lane(Lane.LIVE, budget_s=5) == 1
    assert ready.execute("SELECT generation FROM reindexer.due").fetchall() == [(2,)]
    assert promotion.lacking(ready, NAME, 2).late == 1, "also of a deletion that came after the promotion had begun"
    with pytest.raises(GenerationConflict, match="1 changes are not in it yet"):
        promotion.promote(ready, NAME, who="test", terms=AT_ONCE)
    assert worker.run_lane(Lane.BULK, budget_s=5) == 1
    promotion.promote(ready, NAME, who="test", terms=AT_ONCE)
    assert len(found(ready, worker, "second", limit=9)) == 3


def test_a_promotion_waits_until_a_deletion_is_in_the_next_generation(
    ready: Connection, worker: Worker, database: str
) -> None:
    ready.execute("DELETE FROM context_items WHERE title = 'second'")
    drain(ready)
    worker.run_lane(Lane.LIVE, budget_s=5)
    with connect(database, application_name="test") as other, ThreadPoolExecutor() as pool:
        promoting = pool.submit(promotion.promote, other, NAME, who="test", terms=Terms(patience_s=20))
        eventually(lambda: ready.execute("SELECT FROM reindexer.due WHERE lane = 'live'").fetchone() is not None)
        assert not promoting.done()
        assert worker.run_lane(Lane.LIVE, budget_s=5) == 1
        promoting.result(20)
    assert len(found(ready, worker, "second", limit=9)) == 3


def test_no_deletion_is_settled_between_a_promotions_look_and_its_commit(
    ready: Connection, worker: Worker, database: str
) -> None:
    """Searches would show it, and then find the row again."""
    run = runs.start(ready, find_source(ready, NAME), who="test", force=True)
    shown = "SELECT FROM reindexer.ledger WHERE generation = 1 AND outcome = 'DELETED'"
    with (
        connect(database, application_name="test") as other,
        connect(database, application_name="test") as writer,
        ThreadPoolExecutor() as pool,
    ):
        with ready.transaction():
            ready.execute("SELECT FROM reindexer.run WHERE id = %s FOR UPDATE", [run.id])  # the commit waits for this
            promoting = pool.submit(promotion.promote, other, NAME, who="test", terms=Terms(patience_s=20))
            pid = other.info.backend_pid
            eventually(lambda: promoting.done() or ready.execute(WAITS, [pid]).fetchone() is not None)
            # Later than the look, so that the promotion does not wait for it.
            writer.execute("DELETE FROM context_items WHERE title = 'second'")
            drain(writer)
            working = pool.submit(worker.run_lane, Lane.LIVE, budget_s=5)
            eventually(lambda: working.done() or ready.execute(HELD_UP).fetchone() is not None)
            assert not promoting.done()
            assert ready.execute(shown).fetchone() is None
        promoting.result(20)
        working.result(20)
    settle(ready, worker)
    assert ready.execute(shown).fetchone() is not None
    assert len(found(ready, worker, "second", limit=9)) == 3


def test_a_deletion_that_failed_in_the_next_generation_holds_the_promotion_up(
    ready: Connection, worker: Worker
) -> None:
    """Its worker died each time, say: the row would be found again."""
    ready.execute("DELETE FROM context_items WHERE title = 'second'")
    drain(ready)
    worker.run_lane(Lane.LIVE, budget_s=5)
    ready.execute("DELETE FROM reindexer.due")
    item = "(SELECT item_id FROM reindexer.ledger WHERE outcome = 'DELETED' AND generation = 1)"
    ready.execute(
        f"UPDATE reindexer.ledger SET outcome = 'FAILED', error = 'died' WHERE generation = 2 AND item_id = {item}".encode()
    )
    with pytest.raises(GenerationConflict, match=r"1 items .* failed in generation 2"):
        promotion.promote(ready, NAME, who="test", terms=AT_ONCE)


def test_a_backfill_that_is_open_goes_over_to_the_generation_that_searches_use(
    ready: Connection, worker: Worker, provider: FakeProvider
) -> None:
    run = runs.start(ready, find_source(ready, NAME), who="test", force=True)
    promotion.promote(ready, NAME, who="test", terms=AT_ONCE)
    lifecycle.prune(ready, NAME, who="test")
    calls = len(provider.calls)
    settle(ready, worker)
    assert runs.get(ready, run.id).state == "finished"
    embedded = [text for call in provider.calls[calls:] for text in call.inputs if call.body["dimensions"] == 16]
    assert len(embedded) == 4


@pytest.mark.parametrize("first", ["promotion", "wish"])
@pytest.mark.parametrize("wish", ["backfill", "request"])
def test_what_is_asked_while_a_promotion_commits_is_of_the_generation_that_searches_use(
    ready: Connection, database: str, wish: str, first: str
) -> None:
    """Of the former one, it would end without a look at what searches find."""
    source = find_source(ready, NAME)
    row = ready.execute("SELECT min(id::text) FROM context_items").fetchone()
    assert row is not None

    def promote(db: Connection) -> None:
        promotion.promote(db, NAME, who="test", terms=SOON)

    def ask(db: Connection) -> None:
        if wish == "backfill":
            runs.start(db, source, who="test")
        else:
            record(db, NAME, [ReindexRequest("task", row[0])], lane=Lane.BULK, sent=True)

    one, other = (promote, ask) if first == "promotion" else (ask, promote)
    with connect(database, application_name="test") as second, ThreadPoolExecutor() as pool:
        with ready.transaction():
            one(ready)
            following = pool.submit(other, second)
            pid = second.info.backend_pid
            eventually(lambda: following.done() or ready.execute(WAITS, [pid]).fetchone() is not None)
        following.result(20)
    table = "run WHERE kind = 'backfill'" if wish == "backfill" else "request"
    assert ready.execute(f"SELECT generation FROM reindexer.{table}".encode()).fetchall() == [(2,)]
    if wish == "request":
        assert (
            ready.execute("SELECT FROM reindexer.due WHERE generation = 2 AND forced_version > 0").fetchone()
            is not None
        )


def test_a_standby_that_somebody_goes_back_to_as_its_time_ends_is_not_dropped(
    promoted: Connection, database: str
) -> None:
    promoted.execute("UPDATE reindexer.generation SET standby_until = now() WHERE number = 1")
    with connect(database, application_name="test") as listener, ThreadPoolExecutor() as pool:
        with promoted.transaction():
            promotion.rollback(promoted, NAME, who="test", terms=SOON)
            dropping = pool.submit(drop_expired, listener)
            pid = listener.info.backend_pid
            eventually(lambda: dropping.done() or promoted.execute(WAITS, [pid]).fetchone() is not None)
        assert dropping.exception(20) is None
        assert dropping.result() == []
    assert states(promoted) == {1: "active", 2: "standby"}


def test_the_alias_names_a_collection_at_any_moment(promoted: Connection, worker: Worker, index: IndexReader) -> None:
    """Also while it goes back and forth: other programs search by it."""
    collections = [collection_of(promoted, find_source(promoted, NAME, number)) for number in (1, 2)]
    missing, ended = list[str](), threading.Event()

    def look() -> int:
        looks = 0
        while not ended.is_set():
            looks += 1
            if not any(each.alias_name == NAME for each in index.client.get_aliases().aliases):
                missing.append("gone")
        return looks

    with ThreadPoolExecutor() as pool:
        looking = [pool.submit(look) for _ in range(2)]
        for n in range(60):
            worker.index.follow_alias(collections[n % 2])
        ended.set()
        assert all(each.result(10) > 10 for each in looking)
    assert not missing
