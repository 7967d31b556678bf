"""A table is moved by pg_dump into a database that has no schema of ours, by the list that docs/operations.md tells."""

from __future__ import annotations

import os
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from reindexer.core.source import Source
from reindexer.embedded.postgres import wheel_binaries
from reindexer.postgres.connect import Connection
from reindexer.sources.attach import attach
from tests.support.commands import Done
from tests.support.docs import blocks
from tests.support.processes import ROOT
from tests.support.servers import Servers, database_url

TABLES = b"""
    CREATE TABLE notes (id int PRIMARY KEY, body text);
    CREATE TABLE "reindexer_Log of mine" (id int PRIMARY KEY);
    INSERT INTO notes VALUES (1, 'tea'), (2, 'bread');
    CREATE FUNCTION count_notes() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO "reindexer_Log of mine" SELECT 1 + count(*) FROM "reindexer_Log of mine"; RETURN NULL; END';
    CREATE TRIGGER mine AFTER INSERT ON notes FOR EACH STATEMENT EXECUTE FUNCTION count_notes();
    CREATE TRIGGER kept AFTER UPDATE ON "reindexer_Log of mine" FOR EACH STATEMENT EXECUTE FUNCTION count_notes()
"""
NOTES = Source("notes", "public", "notes", ("id",), ("body",))
WHOLE = {"insert", "update", "delete", "truncate", "replica"}


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """The URL of a database without anything in it."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield database_url(servers, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def the_list() -> str:
    """The documented command that prints which parts of an archive to restore."""
    (line,) = [
        line
        for block in blocks(ROOT / "docs" / "operations.md")
        for line in block.text.splitlines()
        if line.startswith("pg_restore --list")
    ]
    return line


def run(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """In a shell, as a user does, with the embedded server's own programs."""
    path = f"{wheel_binaries()}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        check=False,
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def triggers(url: str) -> set[str]:
    """Those of the user's tables."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE NOT tgisinternal AND relnamespace::regnamespace::text <> 'reindexer'"
        ).fetchall()
    return {str(name) for (name,) in rows}


@pytest.mark.parametrize(
    ("dump", "kept"),
    [("--table notes", set()), ("--schema public", {"mine", "kept"})],
    ids=["one table", "a schema"],
)
@pytest.mark.parametrize("restore", ["", "--clean --if-exists"], ids=["plain", "clean"])
@pytest.mark.first(2)
def test_what_the_documented_list_restores_has_all_rows_and_nothing_of_ours(
    db: Connection, database: str, empty: str, tmp_path: Path, here: Callable[..., Done], env: Mapping[str, str],
    dump: str, kept: set[str], restore: str,
) -> None:  # fmt: skip
    db.execute("DROP TABLE context_items")
    db.execute(TABLES)
    if not kept:
        db.execute("DROP TRIGGER mine ON notes")  # pg_dump takes no function along with a table, of anybody
    attach(db, NOTES)
    dumped = run(f"pg_dump --format=custom {dump} --file=products.dump {shlex.quote(database)}", tmp_path)
    assert dumped.returncode == 0, dumped.stderr
    whole = run(f"pg_restore --exit-on-error --dbname={shlex.quote(empty)} products.dump", tmp_path)
    assert whole.returncode != 0, "the reason for the list"
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    restored = run(
        f"{the_list()}; pg_restore --exit-on-error --use-list=products.list {restore} "
        f"--dbname={shlex.quote(empty)} products.dump",
        tmp_path,
    )
    assert (restored.returncode, restored.stderr) == (0, "")
    assert triggers(empty) == kept
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (2,)
    there = {**env, "DATABASE_URL": empty}
    assert here("migrate", env=there).returncode == 0
    assert "attached" in here("attach", "notes", "--table", "notes", "--text", "body", env=there).stdout
    assert triggers(empty) == kept | {f"reindexer_notes_{kind}" for kind in WHOLE}
