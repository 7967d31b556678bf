"""What `QdrantIndex` does with payload columns: an index of each one's type. What filters find is in the contract.

Where the embedded server only notes an index, a real one uses it: there a filter that does not fit it would find nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from reindexer.adapters.qdrant.filters import filter_of
from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.filters import parse_filter
from reindexer.core.payload import Kind, PayloadColumn
from reindexer.ports import Collection
from reindexer.testing.filters import ASKED, COLUMNS, ROWS, row
from reindexer.testing.indexes import NOW, OWNER, SIZE
from reindexer.testing.waiting import eventually


@pytest.fixture
def filled(index: QdrantIndex, collection: Collection) -> Collection:
    """A collection with an index for each column, and the rows."""
    index.prepare(collection, SIZE, OWNER, COLUMNS)
    index.upsert(collection, [row(item_id, payload) for item_id, payload in ROWS.items()], NOW, 5)
    return collection


def kinds(client: QdrantClient, collection: Collection) -> dict[str, str]:
    schema = client.get_collection(collection.name).payload_schema
    return {name: each.data_type.value for name, each in schema.items() if not name.startswith("_reindexer")}


def test_each_column_has_an_index_of_its_type_and_json_others_and_names_without_a_path_have_none(
    client: QdrantClient, filled: Collection
) -> None:
    assert kinds(client, filled) == {
        "count": "integer", "price": "float", "ok": "bool", "owner": "uuid", "made": "datetime", "tags": "keyword",
        "tenant": "keyword", "größe": "keyword", '"a.b [c]"': "keyword", "author.country": "keyword",
        "groups.id": "integer", "groups.names[]": "keyword", "notes[].by": "keyword", "notes[].at": "datetime",
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
