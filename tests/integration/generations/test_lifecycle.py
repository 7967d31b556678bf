"""A next generation is filled beside the active one, promoted, kept as a way back, and dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reindexer.audit import recent
from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import GenerationConflict, UsageError
from reindexer.core.items import point_id
from reindexer.core.lanes import Lane
from reindexer.generations import lifecycle, promotion
from reindexer.generations.promotion import Terms
from reindexer.generations.upkeep import look_after_others, tidy_index
from reindexer.listener.trigger_monitor import Watch
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import marks
from reindexer.queue.drain import drain
from reindexer.queue.requests import ReindexRequest, record, task_state
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.provider import FakeProvider
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.generations import (
    AT_ONCE,
    NAME,
    SOON,
    empty,
    fill_first,
    found,
    made,
    promote_second,
    settle,
    states,
)
from tests.support.index_reader import IndexReader


@pytest.fixture
def filled(db: Connection, worker: Worker) -> Connection:
    """Four rows, indexed in generation 1."""
    fill_first(db, worker)
    return db


@pytest.fixture
def promoted(filled: Connection, settings: Settings, worker: Worker) -> Connection:
    """The same, with generation 2 promoted and 1 kept."""
    promote_second(filled, settings, worker)
    return filled


def test_a_rebuild_fills_the_next_generation_while_searches_use_the_former(
    filled: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    assert made(filled, settings, worker) == 2
    assert states(filled) == {1: "active", 2: "filling"}
    late = insert(filled, "written while it is filled")
    settle(filled, worker)
    assert states(filled) == {1: "active", 2: "ready"}
    for number, dimensions in ((1, 32), (2, 16)):
        assert index.client.count(f"{NAME}__g{number}", exact=True).count == 5
        points = index.client.retrieve(f"{NAME}__g{number}", [point_id(NAME, late, 0)], with_vectors=True)
        assert len(points[0].vector or ()) == dimensions
    run = next(each for each in runs.recent(filled) if each.kind == "rebuild")
    assert (run.state, run.done, run.failed) == ("finished", 5, 0)


def test_a_promotion_takes_effect_at_once_for_searches_and_the_alias_follows(
    promoted: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    assert states(promoted) == {1: "standby", 2: "active"}
    item = insert(promoted, "newer")
    settle(promoted, worker)
    assert found(promoted, worker, "newer")[0] == item
    assert provider.calls[-1].body["dimensions"] == 16
    alias = {each.alias_name: each.collection_name for each in index.client.get_aliases().aliases}
    assert alias == {NAME: f"{NAME}__g1"}
    tidy_index(worker.postgres, worker.index)
    alias = {each.alias_name: each.collection_name for each in index.client.get_aliases().aliases}
    assert alias == {NAME: f"{NAME}__g2"}
    assert inspect(promoted, find_source(promoted, NAME)).well


def test_a_rollback_has_every_edit_that_followed_the_promotion(
    promoted: Connection, worker: Worker, index: IndexReader
) -> None:
    promoted.execute("UPDATE context_items SET content = 'edited later' WHERE title = 'first'")
    promoted.execute("DELETE FROM context_items WHERE title = 'second'")
    settle(promoted, worker)
    done = promotion.rollback(promoted, NAME, who="test", terms=SOON)
    assert (done.source.generation, done.former) == (1, 2)
    assert states(promoted) == {1: "active", 2: "standby"}
    assert index.client.count(f"{NAME}__g1", exact=True).count == 3
    assert found(promoted, worker, "first\nedited later")[0] == next(
        str(row[0]) for row in promoted.execute("SELECT id FROM context_items WHERE title = 'first'")
    )


def test_what_is_pruned_is_gone_from_postgres_and_from_the_index(
    promoted: Connection, worker: Worker, index: IndexReader
) -> None:
    assert lifecycle.prune(promoted, NAME, who="test") == [1]
    empty(promoted)
    tidy_index(worker.postgres, worker.index)
    assert promoted.execute("SELECT count(*) FROM reindexer.ledger WHERE generation = 1").fetchone() == (0,)
    assert [each.name for each in index.client.get_collections().collections if NAME in each.name] == [f"{NAME}__g2"]
    settle(promoted, worker)
    assert states(promoted) == {1: "dropped", 2: "active"}
    assert made_again(promoted) == 3


def made_again(db: Connection) -> int:
    source = find_source(db, NAME)
    return lifecycle.rebuild(db, source, str(source.made_by), who="test").number


def test_a_rebuild_that_is_cancelled_leaves_nothing(
    filled: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    made(filled, settings, worker)
    walk_page(filled, lambda name, generation: find_source(filled, name, generation))
    assert lifecycle.cancel(filled, NAME, who="test") == 2
    empty(filled)
    tidy_index(worker.postgres, worker.index)
    settle(filled, worker)
    assert states(filled) == {1: "active", 2: "dropped"}
    assert found(filled, worker, "text of first")


def test_what_can_not_be_promoted_says_what_to_do(filled: Connection, settings: Settings, worker: Worker) -> None:
    with pytest.raises(GenerationConflict, match=r"no generation .* is ready; make one: reindexer rebuild"):
        promotion.promote(filled, NAME, who="test", terms=AT_ONCE)
    with pytest.raises(GenerationConflict, match="there is nothing to go back to"):
        promotion.rollback(filled, NAME, who="test", terms=AT_ONCE)
    with pytest.raises(GenerationConflict, match=r"no generation of .* is kept beside"):
        lifecycle.prune(filled, NAME, who="test")
    with pytest.raises(GenerationConflict, match=r"no rebuild of .* is open"):
        lifecycle.cancel(filled, NAME, who="test")
    made(filled, settings, worker)
    with pytest.raises(GenerationConflict, match=r"still being filled"):
        promotion.promote(filled, NAME, who="test", terms=AT_ONCE)
    with pytest.raises(GenerationConflict, match=r"generation 2 .* is filling: wait for it or cancel it"):
        made(filled, settings, worker)
    with pytest.raises(GenerationConflict, match=r"generation 1 .* is the one that searches use"):
        lifecycle.prune(filled, NAME, who="test", number=1)
    settle(filled, worker)
    with pytest.raises(GenerationConflict, match=r"generation 2 .* is ready: promote it or prune it"):
        made(filled, settings, worker)


def test_a_generation_that_lags_behind_is_promoted_only_by_request(
    filled: Connection, settings: Settings, worker: Worker
) -> None:
    made(filled, settings, worker)
    settle(filled, worker)
    filled.execute("DELETE FROM context_items WHERE title = 'second'")
    drain(filled)
    assert promotion.lacking(filled, NAME, 2).late == 0
    filled.execute("UPDATE reindexer.due SET changed_at = changed_at - interval '2 s' WHERE generation = 2")
    assert promotion.lacking(filled, NAME, 2).late == 1
    with pytest.raises(GenerationConflict, match="lags behind: 1 changes are not in it yet"):
        promotion.promote(filled, NAME, who="test", terms=AT_ONCE)
    assert states(filled) == {1: "active", 2: "ready"}
    lane = filled.execute("SELECT lane FROM reindexer.due WHERE generation = 2").fetchone()
    assert lane == ("live",)
    done = promotion.promote(filled, NAME, who="test", terms=Terms(patience_s=0, accept_lag=True))
    assert done.lacking.late == 1


def test_a_mark_that_was_told_to_be_indexed_stays_so_over_a_promotion(
    filled: Connection, settings: Settings, worker: Worker
) -> None:
    made(filled, settings, worker)
    settle(filled, worker)

    def edit(title: str) -> str:
        with filled.transaction():
            (token,) = filled.execute("SELECT reindexer.mark()").fetchone() or ("",)
            filled.execute("UPDATE context_items SET content = content || '!' WHERE title = %s", [title])
        drain(filled)
        worker.run_lane(Lane.LIVE, budget_s=5)
        return str(token)

    told = edit("first")
    assert marks.states(filled, [told]) == {told: "indexed"}
    with pytest.raises(GenerationConflict, match="lags behind: 1 changes are not in it yet"):
        promotion.promote(filled, NAME, who="test", terms=AT_ONCE)
    filled.execute("UPDATE reindexer.generation SET live_until = now() + interval '1 min' WHERE number = 2")
    worker.run_lane(Lane.LIVE, budget_s=5)
    filled.execute("DELETE FROM reindexer.due WHERE generation = 2")
    # From now on a mark waits for both; and so a promotion need not wait for it.
    asked = edit("second")
    assert marks.states(filled, [asked]) == {asked: "indexed"}, "its items are in the lane live of both"
    with filled.transaction():
        (later,) = filled.execute("SELECT reindexer.mark()").fetchone() or ("",)
        filled.execute("UPDATE context_items SET content = content || '!' WHERE title = 'third'")
    drain(filled)
    filled.execute("DELETE FROM reindexer.due WHERE generation = 1")
    assert marks.states(filled, [later]) == {later: "waiting"}
    filled.execute("UPDATE reindexer.generation SET live_until = NULL WHERE number = 2")
    assert marks.states(filled, [later]) == {later: "indexed"}
    promotion.promote(filled, NAME, who="test", terms=Terms(patience_s=0, accept_lag=True))
    assert marks.states(filled, [later]) == {later: "waiting"}, "it is in the former generation alone"
    worker.run_lane(Lane.LIVE, budget_s=5)
    assert marks.states(filled, [later]) == {later: "indexed"}


def test_items_that_failed_in_the_next_generation_hold_the_promotion_up(
    filled: Connection, settings: Settings, worker: Worker
) -> None:
    made(filled, settings, worker)
    settle(filled, worker)
    filled.execute(
        "UPDATE reindexer.ledger SET outcome = 'FAILED', error = 'refused' WHERE ctid ="
        " (SELECT ctid FROM reindexer.ledger WHERE generation = 2 LIMIT 1)"
    )
    with pytest.raises(GenerationConflict, match=r"1 items .* failed in generation 2 .* refused.*--accept-failed"):
        promotion.promote(filled, NAME, who="test", terms=AT_ONCE)
    done = promotion.promote(filled, NAME, who="test", terms=Terms(accept_failed=True))
    assert (done.lacking.failed, len(done.lacking.examples)) == (1, 1)


def test_a_request_made_before_a_promotion_is_answered_by_the_generation_that_searches_use(
    filled: Connection, settings: Settings, worker: Worker, provider: FakeProvider
) -> None:
    made(filled, settings, worker)
    settle(filled, worker)
    item = filled.execute("SELECT min(id::text) FROM context_items").fetchone()
    assert item is not None
    record(filled, NAME, [ReindexRequest("task", item[0])], lane=Lane.BULK, sent=True)
    promotion.promote(filled, NAME, who="test", terms=AT_ONCE)
    filled.execute("DELETE FROM reindexer.due WHERE generation = 1")  # its provider is gone, say
    settle(filled, worker)
    state = task_state(filled, "task")
    assert state is not None
    assert state.state == "SUCCESS"
    assert provider.calls[-1].body["dimensions"] == 16


def test_the_triggers_record_what_any_kept_generation_declares(filled: Connection, worker: Worker) -> None:
    filled.execute("ALTER TABLE context_items ADD COLUMN note text")
    source = find_source(filled, NAME)
    wanted = replace(source, text_columns=("title", "note"), made_by=None)
    lifecycle.rebuild(filled, wanted, str(source.made_by), who="test")
    settle(filled, worker)
    filled.execute("UPDATE context_items SET note = 'seen' WHERE title = 'first'")
    assert filled.execute("SELECT item_id IS NOT NULL FROM reindexer.outbox").fetchall() == [(True,)]
    settle(filled, worker)
    promotion.promote(filled, NAME, who="test", terms=SOON)
    assert found(filled, worker, "first\nseen")
    lifecycle.prune(filled, NAME, who="test")
    filled.execute("UPDATE context_items SET content = 'nobody declares it'")
    assert filled.execute("SELECT count(*) FROM reindexer.outbox").fetchone() == (0,)
    assert inspect(filled, find_source(filled, NAME)).well


def test_a_standby_whose_column_is_dropped_is_broken_and_hides_nothing(filled: Connection, worker: Worker) -> None:
    filled.execute("ALTER TABLE context_items ADD COLUMN note text")
    source = find_source(filled, NAME)
    wanted = replace(source, text_columns=("title", "note"), made_by=None)
    lifecycle.rebuild(filled, wanted, str(source.made_by), who="test")
    settle(filled, worker)
    filled.execute("ALTER TABLE context_items DROP COLUMN note")
    filled.execute("UPDATE context_items SET content = 'at once' WHERE title = 'first'")  # fails nothing
    drain(filled)
    attach(filled, find_source(filled, NAME))  # as `reindexer migrate` does, before the listener looks
    filled.execute("UPDATE context_items SET content = 'at once' WHERE title = 'first'")
    filled.execute("UPDATE context_items SET content = 'at last' WHERE title = 'first'")
    assert filled.execute("SELECT DISTINCT item_id IS NOT NULL FROM reindexer.outbox").fetchall() == [(True,)]
    look_after_others(filled, NAME)
    assert states(filled) == {1: "active", 2: "broken"}
    assert inspect(filled, find_source(filled, NAME)).well
    empty(filled)
    settle(filled, worker)
    assert found(filled, worker, "first\nat last")
    filled.execute("UPDATE context_items SET content = 'later' WHERE title = 'first'")
    assert filled.execute("SELECT item_id IS NOT NULL FROM reindexer.outbox").fetchall() == [(True,)]
    assert lifecycle.prune(filled, NAME, who="test") == [2]


@pytest.fixture
def watch(database: str) -> Watch:
    return Watch(lambda: connect(database, application_name="test watch"), 0.1)


def test_the_listener_goes_on_where_a_rebuild_died(
    filled: Connection, settings: Settings, worker: Worker, watch: Watch
) -> None:
    made(filled, settings, worker)
    filled.execute("DELETE FROM reindexer.run WHERE kind = 'rebuild'")
    watch.look(filled)
    settle(filled, worker)
    assert states(filled) == {1: "active", 2: "ready"}


def test_a_standby_whose_time_is_over_is_dropped(promoted: Connection, watch: Watch) -> None:
    promoted.execute("UPDATE reindexer.generation SET standby_until = now() WHERE number = 1")
    watch.look(promoted)
    assert states(promoted) == {1: "dropped", 2: "active"}


def test_whoever_changed_a_generation_stands_in_the_audit(promoted: Connection, worker: Worker) -> None:
    promotion.rollback(promoted, NAME, who="ops", terms=SOON)
    lifecycle.prune(promoted, NAME, who="ops", number=2)
    assert [(each.who, each.action) for each in recent(promoted, source=NAME, limit=4)] == [
        ("ops", "prune"), ("ops", "rollback"), ("test", "promote"), ("test", "rebuild"),
    ]  # fmt: skip


def test_a_generation_can_not_have_another_key(filled: Connection) -> None:
    source = find_source(filled, NAME)
    wanted = replace(source, key_columns=("title",))
    with pytest.raises(UsageError, match="another key"):
        lifecycle.rebuild(filled, wanted, "e", who="test")
