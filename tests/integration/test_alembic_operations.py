"""`op.attach_source` and `op.detach_source` in migrations of a real Alembic project: part of its transaction, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.operations.ops import MigrateOperation
from alembic.util import CommandError

from reindexer.alembic import AttachSourceOp, DetachSourceOp
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.sources import in_transaction
from reindexer.sources.store import find_attached, find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.waiting import eventually
from tests.support.alembic_project import AlembicProject
from tests.support.shop import Shop

CREATE = 'op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))'
INSERT = "op.execute(\"INSERT INTO notes VALUES ({}, '{}')\")"
ATTACH = 'op.attach_source("notes", table="notes", text="body")'
DETACH = 'op.detach_source("notes")'
FAIL = 'op.execute("SELECT 1 / 0")'
PARTITIONED = """
    CREATE TABLE notes (id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE notes_low PARTITION OF notes FOR VALUES FROM (0) TO (10);
    CREATE TABLE notes_high PARTITION OF notes FOR VALUES FROM (10) TO (20)
"""


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    made = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database))
    yield made
    made.dispose()


@pytest.fixture
def project(engine: sa.Engine, tmp_path: Path) -> AlembicProject:
    return AlembicProject(tmp_path, engine)


def triggers_on(db: Connection, table: str = "notes") -> int:
    query = "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname LIKE 'reindexer%%'"
    (count,) = db.execute(query, [table]).fetchone() or (0,)
    return int(count)


def test_a_table_is_made_attached_and_filled_by_one_migration(project: AlembicProject, shop: Shop) -> None:
    project.migration(
        f"{CREATE}; {INSERT.format(1, 'before it')}; {ATTACH}; {INSERT.format(2, 'after it')}",
        f"{DETACH}; op.drop_table('notes')",
    )
    project.upgrade()
    shop.db.execute("INSERT INTO notes VALUES (3, 'later')")
    shop.settle()
    done = "SELECT item_id FROM reindexer.item_status WHERE source = 'notes' AND status = 'COMPLETED' ORDER BY 1"
    assert shop.db.execute(done.encode()).fetchall() == [("1",), ("2",), ("3",)]
    assert inspect(shop.db, find_source(shop.db, "notes")).well
    assert "attach" in str(shop.db.execute("SELECT action FROM reindexer.audit WHERE source = 'notes'").fetchall())

    project.downgrade("base")
    assert find_attached(shop.db, "notes") is None
    assert shop.db.execute(done.encode()).fetchall() == []
    assert shop.db.execute("SELECT to_regclass('notes')::text").fetchone() == (None,)
    kept = shop.db.execute("SELECT source FROM reindexer.detached").fetchall()
    assert kept == [("notes",)]


def test_a_migration_that_fails_leaves_nothing_of_it(project: AlembicProject, db: Connection) -> None:
    project.migration(f"{CREATE}")
    project.upgrade()
    failing = project.migration(f"{ATTACH}; {FAIL}")
    with pytest.raises(sa.exc.DataError):
        project.upgrade(failing)
    assert (find_attached(db, "notes"), triggers_on(db)) == (None, 0)


def test_a_migration_that_fails_after_it_detached_leaves_the_source_as_it_was(
    project: AlembicProject, db: Connection
) -> None:
    project.migration(f"{CREATE}; {ATTACH}")
    project.upgrade()
    before = find_source(db, "notes")
    project.migration(f"{DETACH}; {FAIL}")
    with pytest.raises(sa.exc.DataError):
        project.upgrade()
    assert find_source(db, "notes") == before
    assert inspect(db, before).well
    db.execute("INSERT INTO notes VALUES (1, 'text')")
    assert drain(db).changes == 1


def test_the_first_statement_of_a_migration_of_its_own_is_committed_with_its_version(
    engine: sa.Engine, tmp_path: Path, db: Connection
) -> None:
    """The driver has not yet begun the transaction that SQLAlchemy is in."""
    project = AlembicProject(tmp_path, engine, transaction_per_migration=True)
    project.migration(CREATE)
    project.migration(f"{ATTACH}; {FAIL}")
    with pytest.raises(sa.exc.DataError):
        project.upgrade()
    assert db.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    assert (find_attached(db, "notes"), triggers_on(db)) == (None, 0)


def test_a_source_is_changed_by_what_is_given_alone_and_rows_move_only_if_that_is_meant(
    project: AlembicProject, db: Connection
) -> None:
    project.migration(f"{CREATE}; {ATTACH}; {INSERT.format(1, 'x')}")
    project.upgrade()
    narrowed = 'op.attach_source("notes", where="id > 5"'
    project.migration(f"{narrowed})")
    with pytest.raises(CommandError, match="1 would leave it; nothing was changed"):
        project.upgrade()
    Path(project.config.get_main_option("script_location") or "", "versions", "0002.py").unlink()
    project.migration(f"{narrowed}, rows_may_move=True)")
    project.upgrade()
    source = find_source(db, "notes")
    assert (source.condition, source.text_columns) == ("id > 5", ("body",))


def test_the_statements_that_follow_have_the_settings_of_before(project: AlembicProject, db: Connection) -> None:
    """Ours are for our statements: a time zone would change what the migration itself writes."""
    names = "('TimeZone', 'DateStyle', 'lock_timeout', 'row_security', 'transaction_read_only')"
    settings = (
        f"SELECT {{}} + row_number() OVER (ORDER BY name), name || setting FROM pg_settings WHERE name IN {names}"
    )
    keep = f'op.execute("INSERT INTO notes {settings}")'
    project.migration(
        f"op.execute(\"SET LOCAL TimeZone = 'Asia/Kolkata'\"); op.execute(\"SET LOCAL DateStyle = 'German'\"); "
        f"op.execute('SET LOCAL lock_timeout = 12345'); {CREATE}; {keep.format(0)}; {ATTACH}; {keep.format(100)}"
    )
    project.upgrade()
    rows = db.execute("SELECT body, count(*) FROM notes GROUP BY body").fetchall()
    assert len(rows) == 5
    assert {count for _, count in rows} == {2}


def test_a_writer_that_holds_one_table_and_comes_to_another_waits_for_less_than_a_second(
    project: AlembicProject, db: Connection, database: str
) -> None:
    """Whoever kept the lock of the one while it waited for the other would make a deadlock."""
    db.execute(PARTITIONED.encode())
    project.migration(ATTACH)
    with ThreadPoolExecutor(1) as beside, psycopg.connect(database) as writer:
        writer.execute("SET lock_timeout = '1.5s'")
        writer.execute("INSERT INTO notes_low VALUES (5, 'low')")
        migrating = beside.submit(project.upgrade)
        waits = "SELECT count(*) FROM pg_locks WHERE relation = 'notes_low'::regclass AND NOT granted"
        eventually(lambda: db.execute(waits.encode()).fetchone() == (1,), within=10)
        try:
            writer.execute("INSERT INTO notes_high VALUES (15, 'high')")
            problem = None
        except psycopg.Error as exc:
            problem = exc
        writer.rollback() if problem else writer.commit()
        migrating.result(30)
    assert problem is None
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (2,)
    assert inspect(db, find_source(db, "notes")).well


def test_detaching_waits_until_no_worker_has_an_item_in_hand_and_lets_none_take_one(
    project: AlembicProject, engine: sa.Engine, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.migration(f"{CREATE}; {ATTACH}; {INSERT.format(1, 'x')}")
    project.upgrade()
    walk_page(db, lambda name, _: find_source(db, name))
    drain(db)
    assert claim_batch(db, Lane.BULK, 10, 60.0) or claim_batch(db, Lane.LIVE, 10, 60.0)
    project.migration(DETACH)
    monkeypatch.setattr(in_transaction, "GIVE_UP_AFTER_S", 0.5)
    with pytest.raises(CommandError, match="workers have items of it in hand; `reindexer pause notes` first"):
        project.upgrade()
    assert inspect(db, find_source(db, "notes")).well

    db.execute("UPDATE reindexer.due SET lease_until = NULL, token = NULL WHERE source = 'notes'")
    taken: list[object] = []
    sa.event.listen(engine, "commit", lambda _: taken.extend(claim_batch(db, lane, 10, 60.0) for lane in Lane))
    project.upgrade()
    assert not any(taken)
    assert find_attached(db, "notes") is None


def test_an_error_says_in_one_line_what_to_do(
    project: AlembicProject, engine: sa.Engine, db: Connection, empty_database: str, tmp_path: Path
) -> None:
    project.migration(f"{CREATE}; op.attach_source('notes', table='notes', text='boddy')")
    with pytest.raises(CommandError, match="has no column 'boddy'; is it 'body'"):
        project.upgrade()
    with pytest.raises(CommandError, match=r"op\.attach_source needs a connection: .*`--sql` can't print"):
        project.upgrade(sql=True)

    (tmp_path / "other").mkdir()
    bare = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(empty_database))
    other = AlembicProject(tmp_path / "other", bare)
    other.migration(f"{CREATE}; {ATTACH}")
    with pytest.raises(CommandError, match="no reindexer schema; run `reindexer migrate`"):
        other.upgrade()
    bare.dispose()


def test_each_is_the_others_reverse() -> None:
    attached = AttachSourceOp("notes", {"table": "notes", "text": ("body",)})
    detached: MigrateOperation = attached.reverse()
    assert isinstance(detached, DetachSourceOp)
    assert detached.reverse().given == attached.given
    with pytest.raises(ValueError, match="its definition is not known here"):
        DetachSourceOp("notes").reverse()


@pytest.mark.parametrize(
    ("level", "told"),
    [("AUTOCOMMIT", "the connection is in autocommit"), ("REPEATABLE READ", "the transaction is repeatable read")],
)
def test_a_transaction_in_which_it_can_not_be_done_is_refused(
    engine: sa.Engine, tmp_path: Path, db: Connection, level: str, told: str
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    project = AlembicProject(tmp_path, engine.execution_options(isolation_level=level))
    project.migration(ATTACH)
    with pytest.raises(CommandError, match=told):
        project.upgrade()
    assert (find_attached(db, "notes"), triggers_on(db)) == (None, 0)
