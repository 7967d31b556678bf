"""Tables, schemas and columns of any name: everything that is composed into SQL is quoted by the driver."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg import sql

from api.main import create_app
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import UsageError
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.worker.worker import Worker
from tests.support.index_reader import IndexReader
from tests.support.servers import Servers

KEY = {"X-API-Key": "test-admin-key"}
NAME = "context_items-odd"

ODD = [
    '"; DROP TABLE context_items; --',
    "'; DROP TABLE context_items; --",
    "$reindexer$; DROP TABLE context_items; --",
    "$$ $1 \\' \\",
    "100%",
    "%s %(item_ids)s %%",
    "{} {table} {0}",
    "Ünï ☃ 索引",
    "MiXed  Case ",
    "a\nb\tc",
    "select",
    "x" * 54,
]  # fmt: skip

OURS = [
    "t", "p", "wanted", "item_id", "item_ids", "old_id", "new_id", "edited", "changed_rows", "old_rows", "new", "old",
    "tg_op", "source", "NEW",
]  # fmt: skip
"""Names that our own statements and functions use for something else."""


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY) as client:
        yield client


@pytest.fixture
def reader(servers: Servers, index: IndexReader) -> IndexReader:
    return IndexReader(index.client, NAME)


class OddTable:
    """A table with a composite key, whose schema and columns are named after one odd string."""

    def __init__(self, db: Connection, schema: str, table: str, columns: tuple[str, str, str, str]) -> None:
        self.db = db
        self.name = sql.Identifier(schema, table)
        self.columns = dict(zip(("key", "key2", "text", "extra"), map(sql.Identifier, columns), strict=True))
        db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        self.run(
            "CREATE TABLE {table} ({key} int, {key2} text, {text} text, {extra} jsonb, PRIMARY KEY ({key}, {key2}))"
        )
        key, key2, text, extra = columns
        self.source = Source(NAME, schema, table, (key, key2), (text,), (text, extra))
        self.text_column, self.extra_column = text, extra

    def run(self, statement: str, **values: object) -> None:
        """A statement of the table's owner; values as literals, so that `%` means nothing."""
        parts: Mapping[str, Any] = self.columns | {name: sql.Literal(value) for name, value in values.items()}
        self.db.execute(sql.SQL(statement).format(table=self.name, **parts))


def settle(db: Connection, worker: Worker) -> None:
    """Drain, walk and work until nothing is left."""
    drain(db)
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    while worker.run_lane(Lane.LIVE, budget_s=0) + worker.run_lane(Lane.BULK, budget_s=0):
        pass
    assert db.execute("SELECT item_id, waits_for FROM reindexer.due").fetchall() == []
    assert db.execute("SELECT name, problem FROM reindexer.source WHERE problem IS NOT NULL").fetchall() == []


def follow(table: OddTable, worker: Worker, reader: IndexReader, client: TestClient, provider: FakeProvider) -> None:
    """Attach, fill, edit each kind, search, backfill with a condition: all of it has to work."""
    db, source = table.db, table.source
    table.run("INSERT INTO {table} VALUES (1, 'a', 'first', '{{}}')")
    assert attach(db, source).changed
    assert not attach(db, source).changed
    settle(db, worker)
    first, second = '["1", "a"]', json.dumps(["2", "é'\"%s"], ensure_ascii=False)
    assert reader.holds(first, vector_of("first"))

    table.run("INSERT INTO {table} VALUES (2, {k}, 'second', '{{\"n\": 1}}')", k="é'\"%s")
    table.run("UPDATE {table} SET {text} = 'first, edited' WHERE {key} = 1")
    assert changes(db) == sorted([first, second])
    settle(db, worker)
    assert reader.holds(first, vector_of("first, edited"))
    payload = reader.payload(second)
    assert payload is not None
    assert payload.pop("_reindexer")["item_id"] == second
    assert payload == {table.text_column: "second", table.extra_column: {"n": 1}}

    hits = client.post("/search", json={"source": NAME, "query": "second", "limit": 1}).json()["hits"]
    assert [hit["item_id"] for hit in hits] == [second]
    assert client.get(f"/admin/items/{NAME}/{second}").json()["status"] == "COMPLETED"

    calls = len(provider.calls)
    where = sql.SQL("{} LIKE 'sec%' AND {} @> '{{\"n\": 1}}'").format(table.columns["text"], table.columns["extra"])
    started = client.post("/admin/backfills", json={"source": NAME, "where": where.as_string(db), "force": True})
    assert started.status_code == 202, started.text
    settle(db, worker)
    assert [call.inputs for call in provider.calls[calls:]] == [("second",)]

    db.execute("SET session_replication_role = replica")
    table.run("UPDATE {table} SET {text} = 'as a replica' WHERE {key} = 2")
    db.execute("SET session_replication_role = origin")
    assert changes(db) == [second]
    table.run("UPDATE {table} SET {key} = 3 WHERE {key} = 1")
    table.run("DELETE FROM {table} WHERE {key} = 2")
    settle(db, worker)
    assert reader.count() == 1
    assert reader.holds('["3", "a"]', vector_of("first, edited"))
    table.run("TRUNCATE {table}")
    settle(db, worker)
    assert reader.count() == 0


def changes(db: Connection) -> list[str]:
    """What the outbox holds; a NULL (the triggers could not tell which item) shows as such."""
    return sorted(str(item_id) for (item_id,) in db.execute("SELECT item_id FROM reindexer.outbox"))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.first(4)
def test_a_table_whose_schema_name_and_columns_have_any_name_is_kept_indexed(
    db: Connection, worker: Worker, reader: IndexReader, client: TestClient, provider: FakeProvider, odd: str
) -> None:
    columns = (f"{odd} k", f"{odd} k2", odd, f"{odd} x")
    follow(OddTable(db, f"{odd} s", odd, columns), worker, reader, client, provider)
    assert db.execute("SELECT to_regclass('public.context_items')").fetchone() != (None,)


@pytest.mark.parametrize("place", range(len(OURS)), ids=OURS)
@pytest.mark.first(4)
def test_a_column_that_is_named_as_one_of_ours_is_no_exception(
    db: Connection, worker: Worker, reader: IndexReader, client: TestClient, provider: FakeProvider, place: int
) -> None:
    """Over all runs each name is a key, a second key, a text and a payload column once."""
    key, key2, text, extra = (OURS[(place + step) % len(OURS)] for step in (0, 3, 6, 9))
    follow(OddTable(db, "public", "notes", (key, key2, text, extra)), worker, reader, client, provider)


@pytest.mark.parametrize(
    "name", ['"; drop table context_items; --', "a b", "ünï", "a/b", "a.b", "a%s", "{}", "", "x" * 41, "1a", "a\n", "'"]
)
def test_a_source_of_an_odd_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="source name"):
        Source(name, "public", "notes", ("id",), ("body",))


def test_a_source_that_does_not_exist_is_not_found_whatever_its_name(client: TestClient) -> None:
    for name in ('"; drop table context_items; --', "%00", "a%2Fb", "..%2f..%2fetc%2fpasswd", "ünï", "%ff"):
        assert client.get(f"/admin/items/{name}/1").status_code in (404, 422)
        assert client.post("/search", json={"source": name, "query": "x"}).status_code in (404, 422)
