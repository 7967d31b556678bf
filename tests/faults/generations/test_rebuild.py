"""A rebuild beside writers, beside what an earlier life left, and with a provider that does not have the model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace

import pytest

from reindexer import rebuilding
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.items import point_id
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.generations import lifecycle
from reindexer.listener.trigger_monitor import Watch
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.sources import condition
from reindexer.sources.attach import attach
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import fill
from tests.support.generations import NAME, made, promote_second, settle, states, turn
from tests.support.index_reader import IndexReader

WAITS = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


def with_note(db: Connection) -> str:
    """Another column, which the active generation does not declare; returns the embedder."""
    db.execute("ALTER TABLE context_items ADD COLUMN note text")
    return str(find_source(db, NAME).made_by)


def test_what_a_transaction_wrote_that_had_begun_before_a_rebuild_is_in_the_next_generation(
    filled: Connection, database: str, worker: Worker, index: IndexReader
) -> None:
    """It changes a column alone that no trigger function looked at before."""
    embedder = with_note(filled)
    wanted = replace(find_source(filled, NAME), text_columns=("title", "note"), made_by=None)
    with (
        connect(database, application_name="test") as writer,
        connect(database, application_name="test") as ours,
        ThreadPoolExecutor() as pool,
    ):
        with writer.transaction():
            writer.execute("UPDATE context_items SET note = 'written' WHERE title = 'first'")
            rebuilding_ = pool.submit(lifecycle.rebuild, ours, wanted, embedder, who="test")
            pid = ours.info.backend_pid
            eventually(lambda: rebuilding_.done() or filled.execute(WAITS, [pid]).fetchone() is not None)
            turn(filled, worker)
            assert states(filled)[2] == "filling"
        rebuilding_.result(20)
    settle(filled, worker)
    row = filled.execute("SELECT id::text FROM context_items WHERE title = 'first'").fetchone()
    assert row is not None
    points = index.client.retrieve(f"{NAME}__g2", [point_id(NAME, row[0], 0)], with_vectors=True)
    assert points[0].vector == pytest.approx(vector_of("first\nwritten").tolist(), abs=1e-4)


def test_a_fill_that_waits_for_a_transaction_holds_up_no_other(
    filled: Connection, database: str, worker: Worker
) -> None:
    """Both were left by whoever died on the way."""
    embedder = with_note(filled)
    with connect(database, application_name="test") as writer:
        filled.execute("CREATE TABLE public.others (id int PRIMARY KEY, body text)")
        other = replace(CONTEXT_ITEMS, name="zz", table_name="others", text_columns=("body",), payload_columns=())
        attach(filled, replace(other, alias="zz"))
        settle(filled, worker)
        for name in (NAME, "zz"):
            source = find_source(filled, name)
            columns = (*source.text_columns, "note") if name == NAME else source.text_columns
            wanted = replace(source, text_columns=columns, made_by=None)
            lifecycle.rebuild(filled, wanted, embedder, who="test")
        filled.execute("DELETE FROM reindexer.run WHERE kind = 'rebuild'")
        with writer.transaction():
            writer.execute("UPDATE context_items SET title = title")
            watch = Watch(lambda: connect(database, application_name="test watch"), 0.1)
            with suppress(SourceError):
                watch.look(filled)
            begun = filled.execute("SELECT source FROM reindexer.run WHERE kind = 'rebuild'").fetchall()
            assert begun == [("zz",)]
        watch.look(filled)
    assert len(filled.execute("SELECT source FROM reindexer.run WHERE kind = 'rebuild'").fetchall()) == 2


def test_the_watch_waits_for_no_rebuild_that_waits_for_writers(
    filled: Connection, database: str, worker: Worker
) -> None:
    """Nobody would check triggers meanwhile."""
    embedder = with_note(filled)
    wanted = replace(find_source(filled, NAME), text_columns=("title", "note"), made_by=None)
    with (
        connect(database, application_name="test") as writer,
        connect(database, application_name="test") as ours,
        connect(database, application_name="test watch") as watching,
        ThreadPoolExecutor() as pool,
    ):
        with writer.transaction():
            writer.execute("UPDATE context_items SET note = 'written' WHERE title = 'first'")
            rebuilding_ = pool.submit(lifecycle.rebuild, ours, wanted, embedder, who="test")
            eventually(lambda: filled.execute(WAITS, [ours.info.backend_pid]).fetchone() is not None)
            looking = pool.submit(Watch(lambda: watching, 0.1).look, watching)
            done, _ = wait([looking], 10)
            writer.execute("SELECT 1")
        rebuilding_.result(20)
        looking.result(20)
    assert done, "it waited for the rebuild"


def test_a_rebuild_by_a_model_that_the_provider_does_not_have_changes_nothing(
    filled: Connection, settings: Settings, worker: Worker, provider: FakeProvider
) -> None:
    settings = settings.model_copy(update={"embedding_model": "of tomorrow"})
    provider.behave = lambda _: error(404, "model_not_found")
    with pytest.raises(UsageError, match="nothing was changed"):
        rebuilding.rebuild(settings, filled, worker.index, NAME, who="test")
    assert states(filled) == {1: "active"}


def test_a_rebuild_never_fills_the_collection_of_an_earlier_life(
    filled: Connection, settings: Settings, worker: Worker
) -> None:
    promote_second(filled, settings, worker)
    source = find_source(filled, NAME)
    detach(filled, source, who="test", lease_s=0)
    filled.execute("DELETE FROM context_items")
    attach(filled, CONTEXT_ITEMS)
    fill(filled)
    settle(filled, worker)
    assert rebuilding.rebuild(settings, filled, worker.index, NAME, who="test").number == 3


def test_a_generation_whose_conditions_function_is_replaced_is_looked_at_anew(
    filled: Connection, database: str, worker: Worker, index: IndexReader
) -> None:
    """The active generation has no condition: nothing else tells."""
    filled.execute(
        "CREATE FUNCTION is_wanted(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 <> 'first' $$"
    )
    source = find_source(filled, NAME)
    wanted = condition.resolved(filled, replace(source, made_by=None), "is_wanted(title)")
    lifecycle.rebuild(filled, wanted, str(source.made_by), who="test")
    settle(filled, worker)
    watch = Watch(lambda: connect(database, application_name="test watch"), 0.1)
    watch.look(filled)
    settle(filled, worker)
    assert index.client.count(f"{NAME}__g2", exact=True).count == 3
    filled.execute(
        "CREATE OR REPLACE FUNCTION is_wanted(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 = 'first' $$"
    )
    watch.look(filled)
    settle(filled, worker)
    assert index.client.count(f"{NAME}__g2", exact=True).count == 1
    assert index.client.count(f"{NAME}__g1", exact=True).count == 4


def test_only_one_rebuild_is_under_way(filled: Connection, settings: Settings, worker: Worker, database: str) -> None:
    """Of two that begin together one is refused, and changes nothing."""
    with connect(database, application_name="test") as other, ThreadPoolExecutor() as pool:
        both = [pool.submit(made, each, settings, worker) for each in (filled, other)]
        failed = [each.exception(60) for each in both]
    assert sorted(type(each).__name__ for each in failed) == ["GenerationConflict", "NoneType"]
    assert states(filled) == {1: "active", 2: "filling"}
