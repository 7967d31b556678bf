"""Sources that can't be read for a while: told with the reason, never taken for deletions, and worked on afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from reindexer.listener.trigger_monitor import Watch
from reindexer.migrate import migrate
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.testing.waiting import eventually, somebody_waits_for_a_lock
from reindexer.wiring import worker as make_worker
from tests.support.comparison import differences
from tests.support.flow import WATCH_S, Flow, fill, insert, writes
from tests.support.index_reader import IndexReader


@pytest.mark.parametrize(
    ("away", "back", "told"),
    [
        (
            "ALTER TABLE context_items RENAME COLUMN content TO body",
            "ALTER TABLE context_items RENAME COLUMN body TO content",
            "column 'content' of public.context_items does not exist",
        ),
        (
            "ALTER TABLE context_items RENAME TO things",
            "ALTER TABLE things RENAME TO context_items",
            "it is called things now",
        ),
        (
            "CREATE SCHEMA attic; ALTER TABLE context_items SET SCHEMA attic",
            "ALTER TABLE attic.context_items SET SCHEMA public",
            "it is called attic.context_items now",
        ),
    ],
    ids=["a renamed column", "a renamed table", "a table moved to another schema"],
)
@pytest.mark.first(1)
def test_what_was_renamed_is_told_and_nothing_is_deleted_and_all_is_indexed_when_the_name_is_back(
    db: Connection, flow: Flow, index: IndexReader, database: str, readyz: Callable[..., str],
    away: str, back: str, told: str,
) -> None:  # fmt: skip
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        fill(db)
        assert flow.settles()
        db.execute(away.encode())
        table = {"things": "things", "attic": "attic.context_items"}.get(away.rsplit(maxsplit=1)[-1], "context_items")
        column = "body" if "body" in away else "content"
        db.execute(f"INSERT INTO {table} (title, {column}) VALUES ('new', 'unseen')".encode())
        db.execute(f"UPDATE {table} SET {column} = 'edited' WHERE title = 'first'".encode())
        db.execute(f"DELETE FROM {table} WHERE title = 'second'".encode())
        assert told in str(status(db).sources["context_items"].problem)
        assert readyz("sources").startswith("ok, but context_items can't be worked on")
        assert readyz("triggers") == "ok"
        for _ in range(3):
            flow.settles()
        assert index.count() == 4
        assert "does not exist" in str(migrate(database)[0].problem)
        db.execute(back.encode())
        db.execute("UPDATE reindexer.due SET not_before = now()")
        db.execute("UPDATE reindexer.run SET not_before = now()")
        eventually(flow.settles)
    assert differences(db, index) == []
    assert status(db).sources["context_items"].problem is None
    assert readyz("sources") == readyz("triggers") == "ok"


def test_a_column_that_is_renamed_between_the_claim_and_the_read_deletes_nothing(
    db: Connection, flow: Flow, index: IndexReader, database: str
) -> None:
    """What the catalog said was right when it was asked."""
    fill(db)
    assert flow.settles()
    db.execute("UPDATE context_items SET content = 'edited' WHERE title = 'first'")
    with ThreadPoolExecutor(1) as working, connect(database, application_name="renames") as renames:
        with renames.transaction():
            renames.execute("ALTER TABLE context_items RENAME COLUMN content TO body")
            settles = working.submit(flow.settles)
            eventually(lambda: somebody_waits_for_a_lock(db))
        settles.result()
        assert index.count() == 4
        assert "does not exist" in str(status(db).sources["context_items"].problem)
        renames.execute("ALTER TABLE context_items RENAME COLUMN body TO content")
    db.execute("UPDATE reindexer.due SET not_before = now()")
    flow.settles()
    assert differences(db, index) == []


def test_a_dropped_table_deletes_nothing_from_the_index(
    db: Connection, flow: Flow, index: IndexReader, database: str, readyz: Callable[..., str]
) -> None:  # fmt: skip
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        fill(db)
        assert flow.settles()
        item_id = insert(db, "not indexed any more")
        db.execute("DROP TABLE context_items")
        for _ in range(3):
            flow.settles()
    assert index.count() == 4
    assert index.payload(item_id) is None
    now = status(db)
    assert (now.triggers, now.pending > 0) == ("missing", True)
    assert "table public.context_items does not exist" in str(now.sources["context_items"].problem)
    assert readyz("sources").startswith("ok, but context_items can't be worked on")


@dataclass(frozen=True, slots=True)
class Role:
    """With the rights of listener and worker on our tables, and SELECT on the source."""

    name: str
    url: str


@pytest.fixture
def role(database: str) -> Iterator[Role]:
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA reindexer TO {name};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA reindexer TO {name}; GRANT SELECT ON context_items TO {name}".encode()
        )
        yield Role(name, make_conninfo(database, user=name))
        admin.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_a_listener_without_the_rights_says_so_once_and_migrate_mends(
    db: Connection, flow: Flow, index: IndexReader, database: str, readyz: Callable[..., str],
    role: Role, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    fill(db)
    assert flow.settles()
    with Watch(lambda: connect(role.url, application_name="watch"), WATCH_S):
        with db.transaction():
            db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
            writes(db)
        eventually(lambda: db.execute("SELECT 1 FROM reindexer.run WHERE kind = 'whole_source'").fetchone())
        assert status(db).triggers == "disabled"
        assert "context_items: disabled" in readyz()
        flow.settles()
        assert differences(db, index) == [], "what was written before the watch looked is found all the same"
        db.execute("UPDATE context_items SET content = 'unseen' WHERE title = 'third'")
        migrate(database)
        eventually(flow.settles)
    assert differences(db, index) == []
    assert readyz("sources") == readyz("triggers") == "ok"
    told = [record.getMessage() for record in caplog.records if "permission denied" in record.getMessage()]
    assert len(told) == 1, "while migrate holds the table the watch may say that, too"
    assert "run `reindexer migrate` as the owner of the table" in told[0]


POLICY = "CREATE POLICY none ON context_items USING (false); ALTER TABLE context_items ENABLE ROW LEVEL SECURITY"


@pytest.mark.parametrize(
    "owner", [False, True], ids=["of another role's table", "FORCE ROW LEVEL SECURITY, for the owner"]
)
def test_a_policy_that_is_added_while_a_worker_runs_is_an_error_of_the_source_and_deletes_nothing(
    db: Connection, index: IndexReader, settings: Settings, role: Role, owner: bool
) -> None:
    if owner:
        db.execute(f"ALTER TABLE context_items OWNER TO {role.name}".encode())
    worker = make_worker(settings.model_copy(update={"database_url": SecretStr(role.url)}), None)
    flow = Flow(db, worker)
    fill(db)
    assert flow.settles()
    db.execute(POLICY.encode())
    if owner:
        db.execute("ALTER TABLE context_items FORCE ROW LEVEL SECURITY")
    writes(db)
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'whole_source')")
    flow.settles()
    assert index.count() == 4
    problem = str(status(db).sources["context_items"].problem)
    assert "row-level security" in problem
    db.execute("ALTER TABLE context_items DISABLE ROW LEVEL SECURITY")
    db.execute("UPDATE reindexer.due SET not_before = now()")
    eventually(flow.settles)
    assert differences(db, index) == []
    assert status(db).sources["context_items"].problem is None
    worker.close()
