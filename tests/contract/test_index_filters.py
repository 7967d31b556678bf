"""What every `Index` does with payload columns: an index of each one's type, and searches that filters narrow.

Where the embedded server only notes an index, a real one uses it: there a filter that does not fit it would find nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from reindexer.adapters.qdrant.filters import filter_of
from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.filters import parse_filter
from reindexer.core.payload import Kind, PayloadColumn
from reindexer.core.text.chunks import Span
from reindexer.ports import Collection, Point
from reindexer.testing.indexes import NOW, OWNER, SIZE
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually

COLUMNS = (
    PayloadColumn("count", "integer"), PayloadColumn("price", "float"), PayloadColumn("ok", "bool"),
    PayloadColumn("owner", "uuid"), PayloadColumn("made", "datetime"), PayloadColumn("tags", "keyword"),
    PayloadColumn("tenant", "keyword", tenant=True), PayloadColumn("größe", "keyword"),
    PayloadColumn("a.b [c]", "keyword"), PayloadColumn("facts", "json"), PayloadColumn("age", "other"),
    PayloadColumn('quo"te', "keyword"), PayloadColumn("back\\slash", "keyword"),
)  # fmt: skip
ROWS: Mapping[str, Mapping[str, Any]] = {
    "1": {
        "count": 9007199254740993, "price": 450, "ok": True, "owner": "6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e",
        "made": "2026-01-31T10:00:00.5+01:00", "tags": ["x", "y"], "tenant": "t1", "größe": "XL", "a.b [c]": "here",
        "facts": {"color": {"name": "red"}, "size": 42, "at": "2026-01-31"}, "age": "1 day",
    },
    "2": {
        "count": 2, "price": 199.9, "ok": False, "owner": "aaaaaaaa-3f0b-5c55-9a52-7d1c0b1f6f0e", "made": "2026-03-01",
        "tags": ["z"], "tenant": "t2", "größe": "S", "a.b [c]": "there", "a": {"b [c]": "here"},
        "facts": {"color": {"name": "blue"}, "size": 43.5, "odd key": 1}, "age": "2 days",
    },
    "3": {**{column.name: None for column in COLUMNS}, "tags": [], "made": "2026-02-01T00:00:00"},
}  # fmt: skip
ASKED: list[tuple[dict[str, Any], str]] = [
    ({}, "123"), ({"count": 9007199254740993}, "1"), ({"count": 9007199254740992}, ""), ({"count": [2, 3]}, "2"),
    ({"count": 2.0}, "2"), ({"count": {"gt": 1, "lte": 2}}, "2"), ({"count": {"not": 2}}, "13"),
    ({"count": None}, "3"), ({"count": {"not": None}}, "12"), ({"price": 450}, "1"), ({"price": 450.0}, "1"),
    ({"price": [199.9, 1]}, "2"), ({"price": {"gte": 199.9, "lt": 450}}, "2"), ({"ok": True}, "1"),
    ({"ok": [True, False]}, "12"), ({"ok": {"not": True}}, "23"),
    ({"owner": "6F1D8A1E-3F0B-5C55-9A52-7D1C0B1F6F0E"}, "1"), ({"made": "2026-01-31T09:00:00.500Z"}, "1"),
    ({"made": ["20260301", "2026-02-01"]}, "23"), ({"made": {"gte": "2026-02-01", "lt": "2026-03-01"}}, "3"),
    ({"made": {"lt": "2026-01-31T09:30:00"}}, "1"), ({"made": {"not": "2026-03-01"}}, "13"), ({"tags": "y"}, "1"),
    ({"tags": ["x", "z"]}, "12"), ({"tags": {"not": ["x", "z"]}}, "3"), ({"tags": None}, "3"),
    ({"tenant": "t1", "ok": True}, "1"), ({"tenant": "t1", "ok": False}, ""), ({"größe": "XL"}, "1"),
    ({"a.b [c]": "here"}, "1"), ({"facts.color.name": "red"}, "1"), ({"facts.color.name": ["red", "blue"]}, "12"),
    ({"facts.size": 42}, "1"), ({"facts.size": {"gt": 42}}, "2"), ({"facts.size": None}, "3"),
    ({"facts.at": {"gte": "2026-01-31", "lte": "2026-01-31"}}, "1"), ({"facts.odd key": 1}, "2"),
    ({"facts.nothing": None}, "123"), ({"age": "1 day"}, "1"),
]  # fmt: skip


@pytest.fixture
def filled(index: QdrantIndex, collection: Collection) -> Collection:
    """A collection with an index for each column, and the rows, of two chunks each."""
    index.prepare(collection, SIZE, OWNER, COLUMNS)
    points = [
        Point(item_id, chunk, vector_of(f"{item_id}.{chunk}", SIZE), row, "print", Span(0, 1))
        for item_id, row in ROWS.items()
        for chunk in (0, 1)
    ]
    index.upsert(collection, points, NOW, 5)
    return collection


def kinds(client: QdrantClient, collection: Collection) -> dict[str, str]:
    schema = client.get_collection(collection.name).payload_schema
    return {name: each.data_type.value for name, each in schema.items() if not name.startswith("_reindexer")}


def test_each_column_has_an_index_of_its_type_and_json_others_and_names_without_a_path_have_none(
    client: QdrantClient, filled: Collection
) -> None:
    assert kinds(client, filled) == {
        "count": "integer", "price": "float", "ok": "bool", "owner": "uuid", "made": "datetime", "tags": "keyword",
        "tenant": "keyword", "größe": "keyword", '"a.b [c]"': "keyword",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["keyword", "uuid"])
def test_the_index_of_a_tenant_says_so(
    index: QdrantIndex, client: QdrantClient, collection: Collection, kind: Kind
) -> None:
    index.prepare(collection, SIZE, OWNER, [PayloadColumn("tenant", kind, tenant=True)])
    params = client.get_collection(collection.name).payload_schema["tenant"].params
    assert isinstance(params, models.KeywordIndexParams | models.UuidIndexParams)
    assert (params.type.value, params.is_tenant) == (kind, True)


def test_a_column_that_is_declared_when_there_are_points_gets_its_index(
    index: QdrantIndex, client: QdrantClient, filled: Collection
) -> None:
    index.prepare(filled, SIZE, OWNER, [*COLUMNS, PayloadColumn("later", "integer")])
    eventually(lambda: kinds(client, filled).get("later") == "integer")


def test_a_tenant_column_that_was_retyped_has_an_index_like_others(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.prepare(collection, SIZE, OWNER, [PayloadColumn("tenant", "integer", tenant=True)])
    assert kinds(client, collection) == {"tenant": "integer"}


def test_an_index_of_another_type_that_is_there_stays(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    client.create_payload_index(collection.name, "tags", models.PayloadSchemaType.TEXT, wait=True)
    index.prepare(collection, SIZE, OWNER, [PayloadColumn("tags", "keyword")])
    assert kinds(client, collection) == {"tags": "text"}


@pytest.mark.parametrize(("raw", "ids"), ASKED, ids=[str(raw) for raw, _ in ASKED])
def test_a_search_finds_what_the_filter_lets_through(
    index: QdrantIndex, filled: Collection, raw: dict[str, Any], ids: str
) -> None:
    hits = index.search(filled, vector_of("x", SIZE), 10, parse_filter(raw, COLUMNS))
    assert sorted(hit.item_id for hit in hits) == list(ids)


@pytest.mark.parametrize("raw", [raw for raw, _ in ASKED], ids=str)
def test_a_filter_says_the_same_over_grpc(raw: dict[str, Any]) -> None:
    """As far as the client goes, which is all that can be seen without a server that speaks gRPC."""
    wanted = filter_of(parse_filter(raw, COLUMNS))
    assert said(GrpcToRest.convert_filter(RestToGrpc.convert_filter(wanted))) == said(wanted)


def said(model: Any) -> Any:
    """What a model says, without what it leaves open: over gRPC an empty list and none are the same."""
    plain = model.model_dump() if isinstance(model, BaseModel) else model
    if isinstance(plain, dict):
        return {key: said(value) for key, value in plain.items() if value is not None and value != []}
    return [said(value) for value in plain] if isinstance(plain, list) else plain
