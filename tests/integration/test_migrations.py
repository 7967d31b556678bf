"""Migrations: up, down, up again; what they leave alone; the first fill of a table that already holds rows."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from reindexer.backfills.pager import walk_page
from reindexer.core.errors import UsageError
from reindexer.embedded.postgres import EmbeddedPostgres
from reindexer.migrate import alembic_config, migrate, uninstall
from reindexer.postgres.connect import connect
from reindexer.postgres.schema import REVISION, require_schema
from reindexer.sources.store import find_source
from tests.support.old_tables import TABLE


def objects(url: str) -> list[str]:
    """Everything in the schemas `public` and `reindexer`."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """
            SELECT oid::regclass::text FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'reindexer')
            UNION ALL
            SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace::regnamespace::text IN ('public', 'reindexer')
            UNION ALL SELECT tgname || ' ON ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
            ORDER BY 1
            """
        )
        return [str(name) for (name,) in rows]


def test_upgrade_downgrade_upgrade_gives_the_same_objects(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    first = objects(empty_url)
    assert "reindexer.item_status" in first
    command.downgrade(alembic_config(empty_url), "base")
    assert objects(empty_url) == ["reindexer.alembic_version", "reindexer.alembic_version_pkc"]
    migrate(empty_url, with_context_items=True)
    assert objects(empty_url) == first


def test_downgrade_keeps_rows_of_context_items_and_takes_its_triggers(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("INSERT INTO context_items (content) VALUES ('mine')")
        command.downgrade(alembic_config(empty_url), "base")
        connection.execute("UPDATE context_items SET content = 'still mine'")
        assert connection.execute("SELECT content FROM context_items").fetchall() == [("still mine",)]
    assert not [name for name in objects(empty_url) if "ON context_items" in name]


def test_migrate_is_safe_to_repeat(empty_url: str) -> None:
    assert [each.changed for each in migrate(empty_url, with_context_items=True)] == [True]
    assert [each.changed for each in migrate(empty_url, with_context_items=True)] == [False]
    assert [each.changed for each in migrate(empty_url)] == [False]


def test_rows_that_were_there_before_are_filled_in_pages_in_the_bulk_lane(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 100)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("INSERT INTO context_items (content) SELECT 'row ' || n FROM generate_series(1, 250) n")
    migrate(empty_url)
    with connect(empty_url, application_name="test") as connection:
        assert connection.execute("SELECT count(*) FROM reindexer.due").fetchone() == (0,)
        pages = 0
        while walk_page(connection, lambda name, _: find_source(connection, name)):
            pages += 1
        assert pages == 4
        due = connection.execute("SELECT lane, count(*) FROM reindexer.due GROUP BY lane").fetchall()
        assert due == [("bulk", 250)]


def test_a_database_without_migrations_is_told_what_to_run(empty_url: str) -> None:
    with (
        connect(empty_url, application_name="test") as connection,
        pytest.raises(UsageError, match="reindexer migrate"),
    ):
        require_schema(connection)


def test_the_program_needs_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config("postgresql://nowhere/x")).get_current_head() == REVISION


def test_any_other_revision_is_refused(empty_url: str) -> None:
    migrate(empty_url)
    with connect(empty_url, application_name="test") as connection:
        connection.execute("UPDATE reindexer.alembic_version SET version_num = '9999'")
        with pytest.raises(UsageError, match="9999"):
            require_schema(connection)


def test_uninstall_leaves_a_users_table_byte_identical(empty_url: str, versioned_server: EmbeddedPostgres) -> None:
    def dump() -> str:
        command = [str(versioned_server.bin_directory / "pg_dump"), "--dbname", empty_url]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("INSERT INTO context_items (content) VALUES ('mine')")
        before = dump()
        migrate(empty_url)
        connection.execute("UPDATE context_items SET content = 'mine'")
    uninstall(empty_url)
    uninstall(empty_url)
    # Newer versions put a random word into \restrict lines.
    assert [line for line in dump().splitlines() if "restrict" not in line] == [
        line for line in before.splitlines() if "restrict" not in line
    ]
