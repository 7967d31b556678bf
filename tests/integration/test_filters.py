"""Payloads of every type are indexed by it, and filtered: over the API and on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from qdrant_client import models

from api.main import create_app
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import UsageError
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.worker.collections import Collections
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.index_reader import IndexReader

TABLE = """
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE DOMAIN cents AS bigint CHECK (value >= 0);
    CREATE TABLE things (
        id int PRIMARY KEY, body text NOT NULL, small smallint, big bigint, amount cents, price numeric(10, 2),
        weight double precision, ok boolean, code varchar(10), mood mood, owner uuid, made date, seen timestamptz,
        local timestamp, tags text[], sizes int[], metadata jsonb, age interval, "odd.name y" text,
        "a ""b"" c" text, tenant text, "back\\slash" text
    );
    INSERT INTO things VALUES
        (1, 'one', 1, 9007199254740993, 100, 450, 1.5, true, 'a', 'good', '6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e',
         '2026-01-31', '2026-01-31 10:00+01', '2026-01-31 10:00', '{x,y}', '{1,2}',
         '{"color": {"name": "red"}, "size": 42, "new": true}', '1 day', 'here', '', 't1', ''),
        (2, 'two', 2, 2, 200, 199.90, 2.5, false, 'b', 'bad', 'aaaaaaaa-3f0b-5c55-9a52-7d1c0b1f6f0e',
         '2026-03-01', '2026-03-01 10:00+01', '2026-03-01 10:00', '{z}', '{3}',
         '{"color": {"name": "blue"}, "size": 43.5}', '2 days', 'there', '', 't2', ''),
        (3, 'three', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL)
"""
COLUMNS = (
    "small", "big", "amount", "price", "weight", "ok", "code", "mood", "owner", "made", "seen", "local", "tags",
    "sizes", "metadata", "age", "odd.name y", 'a "b" c', "tenant",
    "back\\slash",
)  # fmt: skip
THINGS = Source("things", "public", "things", ("id",), ("body",), COLUMNS, tenant_column="tenant")


@pytest.fixture
def things(db: Connection, worker: Worker, index: IndexReader) -> IndexReader:
    db.execute(TABLE.encode())
    with changing_triggers(db):
        attach(db, THINGS)
    while drain(db).changes or walk_page(db, lambda name, _: find_source(db, name)):
        pass
    worker.run_lane(Lane.BULK, budget_s=10)
    return IndexReader(index.client, "things")


@pytest.fixture
def found(things: IndexReader, settings: Settings) -> Iterator[Callable[[Mapping[str, Any]], set[str]]]:
    """Ids that a search with that filter finds."""
    assert things.count() == 3
    headers = {"X-API-Key": "test-admin-key"}

    def find(where: Mapping[str, Any]) -> set[str]:
        answer = client.post("/search", headers=headers, json={"source": "things", "query": "x", "filter": where})
        assert answer.status_code == 200, answer.text
        return {hit["item_id"] for hit in answer.json()["hits"]}

    with TestClient(create_app(settings)) as client:
        yield find


def test_every_column_that_can_be_filtered_has_an_index_of_its_type_and_the_tenants_is_told(
    things: IndexReader,
) -> None:
    schema = things.client.get_collection("things").payload_schema
    kinds = {name: info.data_type.value for name, info in schema.items() if not name.startswith("_reindexer")}
    assert kinds == {
        "small": "integer", "big": "integer", "amount": "integer", "price": "float", "weight": "float", "ok": "bool",
        "code": "keyword", "mood": "keyword", "owner": "uuid", "made": "datetime", "seen": "datetime",
        "local": "datetime", "tags": "keyword", "sizes": "integer", '"odd.name y"': "keyword",
        "tenant": "keyword",
    }  # fmt: skip
    params = schema["tenant"].params
    assert isinstance(params, models.KeywordIndexParams)
    assert params.is_tenant


FOUND: list[tuple[Mapping[str, Any], str]] = [
    ({}, "123"), ({"small": 1}, "1"), ({"small": {"not": 1}}, "23"), ({"small": None}, "3"),
    ({"small": [1, 2]}, "12"), ({"big": 9007199254740993}, "1"), ({"amount": {"gt": 100}}, "2"),
    ({"price": 450}, "1"), ({"price": 199.9}, "2"), ({"price": {"gte": 199.9, "lt": 450}}, "2"),
    ({"weight": [1.5, 9]}, "1"), ({"ok": True}, "1"), ({"ok": [True, False]}, "12"), ({"code": ["a", "c"]}, "1"),
    ({"mood": "bad"}, "2"), ({"owner": "6F1D8A1E-3f0b-5c55-9a52-7d1c0b1f6f0e"}, "1"),
    ({"made": "2026-01-31"}, "1"), ({"made": ["2026-01-31", "20260301"]}, "12"), ({"made": {"gte": "2026-02-01"}}, "2"),
    ({"seen": {"lt": "2026-01-31T09:30:00Z"}}, "1"), ({"local": {"gt": "2026-02-01"}}, "2"), ({"tags": "y"}, "1"),
    ({"tags": ["x", "z"]}, "12"), ({"tags": {"not": "x"}}, "23"), ({"sizes": {"gte": 3}}, "2"),
    ({"metadata.color.name": "red"}, "1"), ({"metadata.size": {"gt": 42}}, "2"), ({"metadata.new": True}, "1"),
    ({"metadata.new": None}, "23"), ({"age": "1 day"}, "1"), ({"odd.name y": "there"}, "2"),
    ({"tenant": "t1", "ok": True}, "1"), ({"tenant": "t1", "ok": False}, ""),
]  # fmt: skip
"""Filters, and the ids that they let through."""


def test_a_search_finds_what_the_filter_lets_through(found: Callable[[Mapping[str, Any]], set[str]]) -> None:
    assert [(where, "".join(sorted(found(where)))) for where, _ in FOUND] == FOUND


def test_a_filter_that_does_not_fit_is_422_and_one_line_on_the_command_line(
    things: IndexReader, settings: Settings, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    with TestClient(create_app(settings)) as client:
        answer = client.post(
            "/search", headers={"X-API-Key": "test-admin-key"},
            json={"source": "things", "query": "x", "filter": {"prise": 3}},
        )  # fmt: skip
        secret = client.post(
            "/search", headers={"X-API-Key": "test-admin-key"},
            json={"source": "things", "query": "x", "filter": {"made": "my secret"}},
        )  # fmt: skip
    assert (secret.status_code, "secret" in secret.text) == (422, False)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "is it 'price'?" in answer.text
    done = here("search", "things", "x", "--filter", "prise>=3", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is it 'price'?" in done.stderr


def test_filters_of_the_command_line_hold_together(
    things: IndexReader, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    done = here("search", "things", "x", "--filter", "price>=100", "--filter", "code!=a", "--json", env=env)
    assert [hit["item_id"] for hit in json.loads(done.stdout)["hits"]] == ["2"]
    done = here("search", "things", "x", "--filter", 'code=["a", "b"]', "--filter", "small<2", "--json", env=env)
    assert [hit["item_id"] for hit in json.loads(done.stdout)["hits"]] == ["1"]


def test_a_column_that_is_declared_later_gets_its_index(db: Connection, worker: Worker, things: IndexReader) -> None:
    db.execute("ALTER TABLE things ADD COLUMN later int")
    with changing_triggers(db):
        attach(db, Source("things", "public", "things", ("id",), ("body",), (*COLUMNS, "later")))
    worker.collections = Collections()  # 30 seconds later
    db.execute("UPDATE things SET later = 7")
    while drain(db).changes or walk_page(db, lambda name, _: find_source(db, name)):
        pass
    worker.run_lane(Lane.LIVE, budget_s=10)
    assert things.client.get_collection("things").payload_schema["later"].data_type.value == "integer"


@pytest.mark.parametrize("column", ["price", "made", "metadata", "small"])
def test_a_tenant_that_qdrant_can_not_keep_apart_is_refused(db: Connection, column: str) -> None:
    db.execute(TABLE.encode())
    source = Source("things", "public", "things", ("id",), ("body",), COLUMNS, tenant_column=column)
    with changing_triggers(db), pytest.raises(UsageError, match=f"tenant column '{column}' holds"):
        attach(db, source)
