"""The built-in table: nobody gets it unasked, it can be detached as any source, and it stands beside a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import psycopg
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer.core.source import Source
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import all_sources
from tests.support.commands import Done
from tests.support.index_reader import IndexReader

LIKE_OURS = """
    CREATE TABLE context_items (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text, content text NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{}', created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
        author text)
"""
OWN = "CREATE TABLE context_items (id int PRIMARY KEY, body text)"


@pytest.fixture
def reindexer(here: Callable[..., Done], env: Mapping[str, str], empty_url: str) -> Callable[..., Done]:
    """A command on the empty database."""
    return lambda *arguments: here(*arguments, env={**env, "DATABASE_URL": empty_url})


@pytest.fixture
def admin(empty_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        yield connection


def sources(url: str) -> list[str]:
    with connect(url, application_name="test") as connection:
        return [each.name for each in all_sources(connection)]


def tables(admin: psycopg.Connection) -> list[str]:
    rows = admin.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    return [str(name) for (name,) in rows]


@pytest.mark.first(1)
def test_migrate_leaves_the_users_schema_alone(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str
) -> None:
    done = reindexer("migrate")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == "the schema is up to date; no table is kept indexed yet: reindexer attach NAME --table T --text COLUMNS\n"
    )
    assert reindexer("migrate", "--json").stdout == "{}\n"
    assert (tables(admin), sources(empty_url)) == ([], [])
    assert "context_items" not in reindexer("migrate", "--dry-run").stdout


def test_it_is_made_where_it_is_asked_for(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str
) -> None:
    assert "context_items  would be attached" in reindexer("migrate", "--with-context-items", "--dry-run").stdout
    assert tables(admin) == []
    assert "context_items  attached; a fill is started" in reindexer("migrate", "--with-context-items").stdout
    assert (tables(admin), sources(empty_url)) == (["context_items"], ["context_items"])
    assert "context_items  up to date" in reindexer("migrate").stdout


def test_a_table_like_it_is_attached_where_it_is_there(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str
) -> None:
    admin.execute(LIKE_OURS)
    assert "context_items  would be attached" in reindexer("migrate", "--dry-run").stdout
    assert "context_items  attached; a fill is started" in reindexer("migrate").stdout
    assert sources(empty_url) == ["context_items"]


@pytest.mark.parametrize(
    "make",
    [
        OWN,
        "CREATE VIEW context_items AS SELECT 1 AS id",
        LIKE_OURS.replace("jsonb", "text"),
        LIKE_OURS.replace("PRIMARY KEY", ""),
    ],
    ids=["a table", "a view", "another type", "no key"],
)
@pytest.mark.first(4)
def test_something_else_of_that_name_is_left_alone_and_breaks_nothing(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str, make: str
) -> None:
    admin.execute(make.encode())
    assert (reindexer("migrate").returncode, sources(empty_url)) == (0, [])
    refused = reindexer("migrate", "--with-context-items")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "there is a public.context_items that is not the built-in table; attach it under a name" in refused.stderr
    assert [each.source for each in migrate(empty_url, with_context_items=True, strict=False)] == [], "as `up` does"


def test_a_users_own_table_may_be_called_like_it_and_the_source_too(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str
) -> None:
    admin.execute(OWN)
    reindexer("migrate")
    assert reindexer("attach", "context_items", "--table", "context_items", "--text", "body").returncode == 0
    assert "context_items  up to date" in reindexer("migrate").stdout
    with connect(empty_url, application_name="test") as connection:
        assert all_sources(connection) == [Source("context_items", "public", "context_items", ("id",), ("body",))]


def test_a_table_that_another_source_follows_is_not_attached_a_second_time(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str
) -> None:
    reindexer("migrate")
    admin.execute(LIKE_OURS)
    reindexer("attach", "mine", "--table", "context_items", "--text", "content")
    assert reindexer("migrate", "--with-context-items").returncode == 0
    assert sources(empty_url) == ["mine"]


def test_it_is_detached_as_any_source_and_stays_detached(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str, index: IndexReader
) -> None:
    reindexer("migrate", "--with-context-items")
    done = reindexer("detach", "context_items", "--drop-collection")
    assert "context_items  detached, 0 items" in done.stdout
    assert (reindexer("migrate").returncode, sources(empty_url)) == (0, [])
    assert migrate(empty_url, with_context_items=True, strict=False) == [], "as `up` does"
    assert tables(admin) == ["context_items"], "the table stays"
    assert "context_items  attached; a fill is started" in reindexer("migrate", "--with-context-items").stdout
    assert "context_items  up to date" in reindexer("migrate").stdout, "it was asked for by name"


def test_once_an_applications_migration_tool_has_dropped_it_the_others_go_on_and_it_can_be_detached(
    reindexer: Callable[..., Done], admin: psycopg.Connection, empty_url: str, index: IndexReader
) -> None:
    reindexer("migrate", "--with-context-items")
    admin.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    reindexer("attach", "notes", "--table", "notes", "--text", "body")
    admin.execute("DROP TABLE context_items; DROP FUNCTION reindexer.notes_update CASCADE")
    done = reindexer("migrate")
    assert "notes          attached; a fill is started" in done.stdout
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not all sources can be worked on: context_items; mend them, or" in done.stderr
    assert reindexer("detach", "context_items", "--keep-collection").returncode == 0
    assert (reindexer("migrate").returncode, sources(empty_url)) == (0, ["notes"])


@pytest.fixture
def api(settings: Settings, db: Connection) -> Iterator[TestClient]:
    """Of a database in which the built-in table was dropped by its owner, and another source is attached."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    db.execute("DELETE FROM reindexer.source WHERE name = 'context_items'; DROP TABLE context_items")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.headers["X-API-Key"] = "test-admin-key"
        yield client


@pytest.mark.parametrize(
    ("path", "body"),
    [("/admin/bulk/regenerate-embeddings", {"context_ids": ["1"]}), ("/search", {"query": "tea"})],
)
def test_where_it_is_not_attached_a_request_without_a_source_is_told_to_name_one(
    api: TestClient, path: str, body: dict[str, object]
) -> None:
    answer = api.post(path, json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no source 'context_items'; attached: notes; name one as `source`"


def test_where_it_is_not_attached_its_routes_say_so(api: TestClient, db: Connection) -> None:
    words = "the built-in table is not attached here; `reindexer migrate --with-context-items` makes it"
    one = "/context-items/7d9f2c1e-52c8-4b6c-9d4b-0c8d1c1f1a11"
    new = {"content": "tea"}
    answers = [api.get("/context-items"), api.post("/context-items", json=new), api.get(one),
               api.patch(one, json=new), api.delete(one)]  # fmt: skip
    assert {(each.status_code, each.json()["detail"]) for each in answers} == {(404, words)}
    db.execute(OWN.encode())
    attach(db, Source("context_items", "public", "context_items", ("id",), ("body",)))
    assert api.get("/context-items").status_code == 409
