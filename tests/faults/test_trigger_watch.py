"""What happens to triggers and tables behind our back: no writer fails, nothing is missed, it is told, it is mended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.listener.trigger_monitor import Watch
from reindexer.migrate import migrate
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.sources.attach import attach
from reindexer.sources.key_pages import Page, key_page
from reindexer.sources.trigger_check import TriggersState
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from tests.support.comparison import differences
from tests.support.flow import WATCH_S, Flow, fill, idle, insert, writes
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes


def disabled(db: Connection) -> None:
    db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
    writes(db)


def disabled_for_a_load(db: Connection) -> None:
    with db.transaction():
        db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
        writes(db)
        db.execute("ALTER TABLE context_items ENABLE TRIGGER USER")
        db.execute("ALTER TABLE context_items ENABLE REPLICA TRIGGER reindexer_context_items_replica")
        db.execute("ALTER TABLE context_items ENABLE ALWAYS TRIGGER reindexer_context_items_truncate")


def one_dropped(db: Connection) -> None:
    db.execute("DROP TRIGGER reindexer_context_items_update ON context_items")
    writes(db)


def functions_replaced(db: Connection) -> None:
    for kind in ("rows", "update"):
        db.execute(
            f"CREATE OR REPLACE FUNCTION reindexer.context_items_{kind}() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'".encode()
        )
    writes(db)


def dropped_and_made_anew(db: Connection) -> None:
    db.execute("CREATE TABLE other (LIKE context_items INCLUDING ALL)")
    db.execute("INSERT INTO other (id, title, content) SELECT id, title, 'of the new table' FROM context_items LIMIT 1")
    db.execute("DROP TABLE context_items")
    db.execute("ALTER TABLE other RENAME TO context_items")
    writes(db)


def swapped_by_renaming(db: Connection) -> None:
    with db.transaction():
        db.execute("CREATE TABLE other (LIKE context_items INCLUDING ALL)")
        db.execute("INSERT INTO other (title, content) VALUES ('first', 'of the other table')")
        db.execute("ALTER TABLE context_items RENAME TO old")
        db.execute("ALTER TABLE other RENAME TO context_items")
    writes(db)
    db.execute("UPDATE old SET content = 'of no concern'")


def retyped(db: Connection) -> None:
    db.execute("ALTER TABLE context_items ALTER COLUMN content TYPE varchar USING upper(content)")
    writes(db)


def rewritten_in_place(db: Connection) -> None:
    db.execute("ALTER TABLE context_items ALTER COLUMN content TYPE text USING 'rewritten ' || content")
    writes(db)


def column_dropped_and_made_anew(db: Connection) -> None:
    db.execute("ALTER TABLE context_items DROP COLUMN content")
    db.execute("DELETE FROM context_items WHERE title = 'third'")
    db.execute("ALTER TABLE context_items ADD COLUMN content text NOT NULL DEFAULT 'the default'")
    writes(db)


CASES: dict[str, tuple[Callable[[Connection], None], TriggersState]] = {
    "triggers disabled": (disabled, "disabled"),
    "triggers disabled and enabled again around a load": (disabled_for_a_load, "outdated"),
    "one trigger dropped": (one_dropped, "missing"),
    "functions replaced by others": (functions_replaced, "outdated"),
    "table dropped and made anew": (dropped_and_made_anew, "missing"),
    "table swapped with another by renaming": (swapped_by_renaming, "missing"),
    "declared column retyped": (retyped, "outdated"),
    "declared column rewritten with its type kept": (rewritten_in_place, "outdated"),
    "declared column dropped and made anew": (column_dropped_and_made_anew, "outdated"),
}
cases = pytest.mark.parametrize(("case", "state"), CASES.values(), ids=CASES)


@cases
@pytest.mark.first(2)
def test_status_and_readyz_tell_it_and_migrate_mends_it_and_finds_what_was_missed(
    db: Connection, flow: Flow, index: IndexReader, database: str, readyz: Callable[..., str],
    case: Callable[[Connection], None], state: TriggersState,
) -> None:  # fmt: skip
    fill(db)
    assert flow.settles()
    case(db)
    told = status(db)
    assert (told.triggers, told.sources["context_items"].triggers) == (state, state)
    assert told.sources["context_items"].triggers_wrong
    assert f"context_items: {state}" in readyz()
    assert [each.changed for each in migrate(database)] == [True]
    assert [each.changed for each in migrate(database)] == [False]
    assert readyz() == "ok"
    assert flow.settles()
    assert differences(db, index) == []


@cases
@pytest.mark.first(3)
def test_the_watch_mends_it_by_itself_and_finds_what_was_missed(
    db: Connection, flow: Flow, index: IndexReader, database: str,
    case: Callable[[Connection], None], state: TriggersState,
) -> None:  # fmt: skip
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        fill(db)
        assert flow.settles()
        case(db)
        eventually(flow.settles)
        assert differences(db, index) == []
        insert(db, "and later writes are recorded again")
        assert flow.settles()
        assert differences(db, index) == []


def test_the_listener_mends_disabled_triggers_within_a_minute_logs_one_line_and_writers_wait_for_nothing(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    listener = processes.listener()
    processes.worker()
    fill(db)
    eventually(lambda: not differences(db, index), within=20)
    disabled(db)
    eventually(lambda: idle(db) and not differences(db, index), within=60)
    assert log_of(listener).count("triggers_repaired") == 1
    assert len(log_of(listener).splitlines()) == 2


NO_KEY = {
    "the primary key dropped": "ALTER TABLE context_items DROP CONSTRAINT context_items_pkey",
    "its columns nullable": """
        ALTER TABLE context_items DROP CONSTRAINT context_items_pkey; ALTER TABLE context_items ALTER id DROP NOT NULL;
        CREATE UNIQUE INDEX ON context_items (id)""",
    "an index on part of the rows alone": """
        ALTER TABLE context_items DROP CONSTRAINT context_items_pkey;
        CREATE UNIQUE INDEX ON context_items (id) WHERE title <> 'third'""",
}


@pytest.mark.parametrize("ddl", NO_KEY.values(), ids=NO_KEY)
def test_a_key_that_is_unique_no_more_is_told_while_edits_go_on(
    db: Connection, flow: Flow, index: IndexReader, database: str, ddl: str
) -> None:
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        fill(db)
        assert flow.settles()
        db.execute(ddl.encode())
        told = "(id) has no valid unique NOT NULL index; use the primary key, or make such an index"
        assert told in str(status(db).sources["context_items"].problem)
        insert(db, "as before")
        eventually(flow.settles)
        assert differences(db, index) == []
        db.execute("ALTER TABLE context_items ADD PRIMARY KEY (id)")
        assert status(db).sources["context_items"].problem is None


def test_of_two_rows_with_one_key_neither_wins_and_that_item_alone_fails_until_one_is_gone(
    db: Connection, flow: Flow, index: IndexReader
) -> None:
    fill(db)
    assert flow.settles()
    db.execute("ALTER TABLE context_items DROP CONSTRAINT context_items_pkey")
    db.execute("UPDATE context_items SET content = content || ', edited'")
    db.execute(
        "INSERT INTO context_items (id, title, content) SELECT id, title, 'again' FROM context_items WHERE title = 'first'"
    )
    flow.settles()
    ((item_id, error),) = db.execute("SELECT item_id, error FROM reindexer.item_status WHERE status = 'FAILED'")
    assert str(error).startswith("two rows have this key, and neither can be chosen")
    assert index.count() == 4
    assert [each for each in differences(db, index) if str(item_id) not in each] == []
    db.execute("DELETE FROM context_items WHERE content LIKE '%, edited' AND title = 'first'")
    db.execute("CREATE UNIQUE INDEX ON context_items (id)")
    assert flow.settles()
    assert differences(db, index) == []
    assert status(db).failed == 0


def test_a_row_without_a_key_is_no_item_and_keeps_no_other_from_being_indexed(
    db: Connection, flow: Flow, index: IndexReader
) -> None:
    db.execute("CREATE TABLE named (k text PRIMARY KEY, body text)")
    named = IndexReader(index.client, "context_items_named")
    source = Source("context_items_named", "public", "named", ("k",), ("body",))
    attach(db, source)
    assert flow.settles()
    db.execute("ALTER TABLE named DROP CONSTRAINT named_pkey; ALTER TABLE named ALTER k DROP NOT NULL")
    db.execute("INSERT INTO named VALUES (NULL, 'nobody'), ('None', 'somebody')")
    assert key_page(db, source, None, 2, timeout_s=5) == Page(("None",), None)
    flow.settles()
    db.execute("DELETE FROM named WHERE k = 'None'")
    flow.settles()
    db.execute("INSERT INTO named SELECT 'k' || n, 'some body' FROM generate_series(1, 3) n")
    flow.settles()
    assert named.count() == 3
    assert (
        db.execute("SELECT DISTINCT item_id FROM reindexer.ledger WHERE item_id = 'None' AND chunks > 0").fetchall()
        == []
    )


def test_two_rows_of_a_tree_with_one_key_fail_as_one_item_that_is_told(
    db: Connection, flow: Flow, index: IndexReader
) -> None:
    """A unique index of a parent sees nothing of its inheritance children."""
    fill(db)
    db.execute("CREATE TABLE below (PRIMARY KEY (id)) INHERITS (context_items)")
    db.execute(
        "INSERT INTO below (id, title, content) SELECT id, title, 'twin' FROM context_items WHERE title = 'first'"
    )
    attach(db, CONTEXT_ITEMS)
    flow.settles()
    assert (index.count(), status(db).failed) == (3, 1)
    db.execute("DELETE FROM below")
    assert flow.settles()
    assert differences(db, index) == []
