"""A database role named like our schema: its application's tables end up where it means them to, or it is told."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import psycopg
import pytest

from reindexer.postgres.namesake import leads_to_us
from tests.support.commands import Done
from tests.support.servers import Servers, database_url


@dataclass
class Application:
    """What an application does that connects by this role, and commands by the same."""

    url: str
    reindexer: Callable[..., Done]

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """On a connection of its own, so that the role's settings count."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def schema_of(self, table: str) -> list[str]:
        rows = self.sql(f"SELECT schemaname FROM pg_tables WHERE tablename = '{table}' ORDER BY 1")
        return [str(name) for (name,) in rows]


@pytest.fixture
def application(servers: Servers, here: Callable[..., Done], env: Mapping[str, str]) -> Iterator[Application]:
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE reindexer LOGIN")
        admin.execute(f"CREATE DATABASE {name} OWNER reindexer")
        url = psycopg.conninfo.make_conninfo(database_url(servers, name), user="reindexer")
        yield Application(url, lambda *arguments: here(*arguments, env={**env, "DATABASE_URL": url}))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.execute("DROP ROLE reindexer")


def mend(told: str) -> str:
    """The statement at the line's end."""
    return told.strip().rpartition("first run ")[2]


@pytest.fixture
def trapped(application: Application) -> Application:
    """It was installed while the role had a path of its own, and has lost it since."""
    application.sql(mend(application.reindexer("migrate").stderr))
    assert application.reindexer("migrate").returncode == 0
    application.sql("ALTER ROLE reindexer IN DATABASE " + application.url.split("dbname=")[1].split()[0] + " RESET ALL")
    return application


def test_migrate_refuses_to_make_a_schema_to_which_the_roles_own_tables_would_go(application: Application) -> None:
    for command in (("migrate",), ("migrate", "--dry-run")):
        refused = application.reindexer(*command)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert (
            "tables that its application makes would end up there, and can't be attached; first run" in refused.stderr
        )
        assert application.sql("SELECT FROM pg_namespace WHERE nspname = 'reindexer'") == []
    application.sql(mend(refused.stderr))
    done = application.reindexer("migrate")
    assert (done.returncode, done.stderr) == (0, "")
    application.sql("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    assert application.schema_of("notes") == ["public"]
    assert application.reindexer("attach", "notes", "--table", "notes", "--text", "body").returncode == 0


def test_where_the_schema_is_there_already_migrate_warns(trapped: Application) -> None:
    done = trapped.reindexer("migrate")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("reindexer: warning: the search_path of the database role reindexer")
    trapped.sql(mend(done.stderr))
    assert trapped.reindexer("migrate").stderr == ""


def test_a_table_in_our_schema_is_never_found_by_its_name_alone(trapped: Application) -> None:
    trapped.sql("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    assert trapped.schema_of("notes") == ["reindexer"], "the trap"
    for name in ("notes", "reindexer.notes"):
        told = trapped.reindexer("attach", "notes", "--table", name, "--text", "body")
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert 'it lies in our schema by mistake: ALTER TABLE "reindexer"."notes" SET SCHEMA public' in told.stderr
    trapped.sql("CREATE TABLE public.notes (id int PRIMARY KEY, body text)")
    assert trapped.reindexer("attach", "notes", "--table", "notes", "--text", "body").returncode == 0
    assert trapped.sql("SELECT definition ->> 'table_schema' FROM reindexer.source") == [("public",)]


def test_uninstall_takes_what_is_ours_and_tells_what_else_lies_in_the_schema(trapped: Application) -> None:
    trapped.sql("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    trapped.sql("INSERT INTO notes VALUES (1, 'mine')")
    trapped.sql("CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'")
    for _ in range(2):
        done = trapped.reindexer("migrate", "--uninstall", "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert "left and the schema, which holds what is not ours: answer(), notes" in done.stdout
    assert trapped.sql("SELECT answer(), body FROM notes") == [(42, "mine")]
    trapped.sql("ALTER TABLE notes SET SCHEMA public; DROP FUNCTION answer()")
    assert "not ours" not in trapped.reindexer("migrate", "--uninstall", "--yes").stdout
    assert trapped.sql("SELECT FROM pg_namespace WHERE nspname = 'reindexer'") == []


@pytest.mark.parametrize(
    ("path", "schemas", "leads"),
    [
        ('"$user", public', {"public"}, True),
        ("$user,public", {"public"}, True),
        ("public", {"public"}, False),
        ('public, "$user"', {"public"}, False),
        ('app, "$user"', {"public"}, True),
        ('app, "$user"', {"app"}, False),
        ("reindexer", {"public"}, True),
        ('""', {"public"}, False),
    ],
)
def test_the_first_schema_of_a_path_that_there_is_decides(path: str, schemas: set[str], leads: bool) -> None:
    assert leads_to_us(path, schemas) is leads
