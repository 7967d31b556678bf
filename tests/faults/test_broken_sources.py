"""A source that is broken never keeps the others from being attached, worked on, or reported ready."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psycopg
import pytest
from alembic import command
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from reindexer.core.source import Source
from reindexer.listener.trigger_monitor import Watch
from reindexer.migrate import alembic_config
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import all_sources
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from tests.support.commands import Done
from tests.support.comparison import differences
from tests.support.flow import Flow, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

TABLES = b"""
    CREATE SCHEMA shop;
    CREATE TABLE shop.goods (id int PRIMARY KEY, name text);
    CREATE TABLE shop.notes (id int PRIMARY KEY, body text);
"""
GOODS = Source("goods", "shop", "goods", ("id",), ("name",))
FILE = """
[sources.goods]
table = "shop.goods"
text = "name"
[sources.notes]
table = "shop.notes"
text = "body"
"""
BREAK = {
    "its table is dropped": "DROP TABLE shop.goods",
    "its schema is dropped": "ALTER TABLE shop.notes SET SCHEMA public; DROP SCHEMA shop CASCADE; CREATE SCHEMA shop;"
    " ALTER TABLE public.notes SET SCHEMA shop",
    "a column is gone": "ALTER TABLE shop.goods DROP COLUMN name",
    "its key is gone": "ALTER TABLE shop.goods DROP CONSTRAINT goods_pkey",
}


@pytest.mark.parametrize("older", [False, True], ids=["this revision", "an older revision"])
@pytest.mark.parametrize("breakage", BREAK.values(), ids=BREAK.keys())
@pytest.mark.first(1)
def test_migrate_attaches_the_others_of_the_file_and_tells_which_one_is_broken(
    db: Connection, database: str, here: Callable[..., Done], env: Mapping[str, str], tmp_path: Path,
    breakage: str, older: bool,
) -> None:  # fmt: skip
    db.execute(TABLES)
    attach(db, GOODS)
    db.execute(breakage.encode())
    if older:
        command.downgrade(alembic_config(database), "0004")
    file = tmp_path / "my.toml"
    file.write_text(FILE, encoding="utf-8")
    settings = {**env, "REINDEXER_SOURCES": str(file)}
    dry = here("migrate", "--dry-run", env=settings)
    assert (dry.returncode, "would be attached" in dry.stdout) == (0, True)
    done = here("migrate", env=settings)
    assert "notes          attached; a fill is started\n" in done.stdout
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not all sources can be worked on: goods; mend them, or, if one is not wanted any more" in done.stderr
    assert "source 'goods'" in done.stdout
    assert {each.name for each in all_sources(db)} == {"context_items", "goods", "notes"}


def test_a_mistake_in_the_file_about_a_source_that_works_is_still_refused_as_a_whole(
    db: Connection, here: Callable[..., Done], env: Mapping[str, str], tmp_path: Path
) -> None:
    db.execute(TABLES)
    attach(db, GOODS)
    file = tmp_path / "my.toml"
    file.write_text(FILE.replace('"name"', '"nme"'), encoding="utf-8")
    done = here("migrate", env={**env, "REINDEXER_SOURCES": str(file)})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert {each.name for each in all_sources(db)} == {"context_items", "goods"}


@pytest.mark.long
def test_processes_are_ready_for_the_others_and_work_on_them(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    db.execute(TABLES)
    attach(db, GOODS)
    processes.listener(REINDEXER_TRIGGER_CHECK_S="0.2")
    processes.worker()
    _, url = processes.api()
    eventually(lambda: httpx.get(f"{url}/readyz", timeout=10).status_code == 200, within=30)
    db.execute("INSERT INTO shop.goods VALUES (1, 'tea')")
    db.execute("DROP TABLE shop.goods")
    insert(db, "written after the other table was dropped")
    eventually(lambda: index.count() == 1 and not differences(db, index))
    answer = httpx.get(f"{url}/readyz", timeout=10)
    assert answer.status_code == 200
    assert answer.json()["checks"]["sources"].startswith("ok, but goods can't be worked on")
    assert "table shop.goods does not exist" in str(status(db).sources["goods"].problem)
    assert status(db).sources["context_items"].problem is None


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """The URL of a role with all rights on our tables and on context_items, and none on the schema `shop`."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA reindexer TO {name};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA reindexer TO {name}; GRANT SELECT ON context_items TO {name}".encode()
        )
        yield make_conninfo(database, user=name)
        admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_a_source_whose_schema_may_not_be_used_is_told_and_the_others_are_worked_on_and_watched(
    db: Connection, role: str, settings: Settings, index: IndexReader
) -> None:
    db.execute(TABLES)
    attach(db, GOODS)
    db.execute("INSERT INTO shop.goods VALUES (1, 'tea')")
    insert(db, "mine")
    worker = make_worker(settings.model_copy(update={"database_url": SecretStr(role)}), None)
    with connect(role, application_name="listener") as listener:
        Watch(lambda: listener, 1.0).look(listener)
        Flow(listener, worker).settles()
        told = status(listener).sources
    worker.close()
    assert index.count() == 1
    assert "permission denied for schema shop" in str(told["goods"].problem)
    assert (told["context_items"].problem, told["context_items"].triggers) == (None, "ok")
