"""Collections, aliases and indexes of the embedded Qdrant, and what it refuses."""

import threading
import uuid
from collections.abc import Callable

import httpx
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from tests.contract.embedded_qdrant.points import FAILURES, NewName, matches, point, refused, stored
from tests.support.qdrant_process import connect


def test_a_collection_reports_its_parameters_and_its_size(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a"), point("b")])
    info = client.get_collection(collection)
    assert isinstance(info.config.params.vectors, m.VectorParams)
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (4, m.Distance.COSINE)
    assert (info.points_count, info.status) == (2, m.CollectionStatus.GREEN)
    assert client.collection_exists(collection)
    assert collection in {each.name for each in client.get_collections().collections}
    assert client.update_collection(collection, optimizers_config=m.OptimizersConfigDiff(indexing_threshold=10_000))


def test_payload_indexes_show_in_the_schema(client: QdrantClient, collection: str) -> None:
    client.create_payload_index(collection, "_reindexer.item_id", m.PayloadSchemaType.KEYWORD)
    client.create_payload_index(collection, "_reindexer.version", m.IntegerIndexParams(type=m.IntegerIndexType.INTEGER))
    schema = client.get_collection(collection).payload_schema
    assert {field: index.data_type.value for field, index in schema.items()} == {
        "_reindexer.item_id": "keyword",
        "_reindexer.version": "integer",
    }
    client.delete_payload_index(collection, "_reindexer.item_id")
    assert set(client.get_collection(collection).payload_schema) == {"_reindexer.version"}


def test_what_does_not_exist_is_404(client: QdrantClient) -> None:
    name = f"test_{uuid.uuid4().hex}"
    vector = [1.0, 0.0, 0.0, 0.0]
    calls: list[Callable[[], object]] = [
        lambda: client.get_collection(name),
        lambda: client.upsert(name, [point("a")]),
        lambda: client.scroll(name),
        lambda: client.count(name),
        lambda: client.retrieve(name, [1]),
        lambda: client.query_points(name, query=vector),
        lambda: client.query_points_groups(name, "a", query=vector),
        lambda: client.delete(name, m.Filter(must=[matches("item_id", "a")])),
        lambda: client.set_payload(name, {"a": 1}, points=[1]),
        lambda: client.create_payload_index(name, "a", m.PayloadSchemaType.KEYWORD),
    ]
    for call in calls:
        error = refused(call)
        assert error.status_code == 404
        assert f"Collection `{name}` doesn't exist!" in error.content.decode()
    assert not client.collection_exists(name)
    assert not client.delete_collection(name)


def test_a_missing_point_is_404_by_its_route_and_absent_from_a_list(
    client: QdrantClient, collection: str, url: str
) -> None:
    client.upsert(collection, [present := point("a", title="x")])
    assert [record.payload for record in client.retrieve(collection, [present.id, str(uuid.uuid4())])] == [
        present.payload
    ]
    assert httpx.get(f"{url}/collections/{collection}/points/{present.id}").json()["result"]["payload"]["title"] == "x"
    assert httpx.get(f"{url}/collections/{collection}/points/{uuid.uuid4()}").status_code == 404
    assert httpx.get(f"{url}/collections/{collection}/points/nonsense").status_code == 400


def test_creating_a_collection_twice_is_409(client: QdrantClient, collection: str) -> None:
    vectors = m.VectorParams(size=4, distance=m.Distance.COSINE)
    error = refused(lambda: client.create_collection(collection, vectors_config=vectors))
    assert error.status_code == 409
    assert f"Collection `{collection}` already exists!" in error.content.decode()


def test_wrong_dimensions_are_400_and_say_which(client: QdrantClient, collection: str) -> None:
    wrong = m.PointStruct(id=1, vector=[1.0, 2.0, 3.0])
    for call in (
        lambda: client.upsert(collection, [point("a"), wrong]),
        lambda: client.upsert(collection, m.Batch(ids=[1], vectors=[[1.0, 2.0, 3.0]])),
        lambda: client.query_points(collection, query=[1.0, 2.0, 3.0]),
    ):
        error = refused(call)
        assert error.status_code == 400
        assert "expected dim: 4, got 3" in error.content.decode()
    assert client.count(collection).count == 0, "the good neighbour of a bad point is not written either"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "points", b"{"),
        ("PUT", "points", b""),
        ("PUT", "points", b'{"points": [{"id": 1}]}'),
        ("PUT", "points", b'{"points": [{"id": "not a uuid", "vector": [1, 2, 3, 4]}]}'),
        ("PUT", "points", b'{"points": [{"id": -1, "vector": [1, 2, 3, 4]}]}'),
        ("PUT", "points", b'{"points": [{"id": 1, "vector": ["1", "2", "3", "4"]}]}'),
        ("PUT", "points", b'{"points": [{"id": 1, "vector": [1, null, 3, 4]}]}'),
        ("PUT", "points?wait=true", b'{"points": [{"id": 1, "vector": {"other": [1, 2, 3, 4]}}]}'),
        ("PUT", "points/vectors", b'{"points": [{"id": 1, "vector": {"text": "a", "model": "b"}}]}'),
        ("PUT", "points", b'{"batch": {"ids": [1, 2], "vectors": [[1, 2, 3, 4]]}}'),
        ("POST", "points/scroll", b'{"limit": "many"}'),
        ("POST", "points/scroll", b'{"limit": 0}'),
        ("POST", "points/scroll", b'{"filter": {"must": [{"nonsense": 1}]}}'),
        ("POST", "points/query", b'{"query": [[]]}'),
        ("POST", "points/query", b'{"query": [1, 2, 3, 4], "using": "other"}'),
        ("POST", "points/query/groups", b'{"query": [1, 2, 3, 4]}'),
        ("POST", "points/delete", b"{}"),
        ("POST", "points/delete", b'{"points": "all"}'),
        ("POST", "points/payload", b'{"payload": {"a": 1}}'),
        ("POST", "points/batch", b'{"operations": [{"nonsense": {}}]}'),
        ("POST", "points/batch", b"[]"),
        ("PUT", "index", b'{"field_name": "a", "field_schema": "nonsense"}'),
    ],
)
def test_what_cannot_be_understood_is_refused_not_500(
    url: str, collection: str, method: str, path: str, body: bytes
) -> None:
    answer = httpx.request(
        method, f"{url}/collections/{collection}/{path}", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["status"]["error"]


def test_a_vector_that_the_collection_does_not_have_is_told_to_who_waits_and_written_for_nobody(
    client: QdrantClient, collection: str
) -> None:
    """Who does not wait is answered before it is tried."""
    wrong = [m.PointStruct(id=1, vector={"other": [1.0, 2.0, 3.0, 4.0]})]
    assert refused(lambda: client.upsert(collection, wrong, wait=True)).status_code == 400
    assert client.upsert(collection, wrong, wait=False).status == m.UpdateStatus.ACKNOWLEDGED
    client.upsert(collection, [point("a")], wait=True)
    assert set(stored(client, collection)) == {"a"}


def test_an_alias_moves_atomically_and_stands_for_its_collection(
    client: QdrantClient, new_name: NewName, url: str
) -> None:
    old, new, alias = new_name(), new_name(), new_name()
    for name, item in ((old, "old"), (new, "new")):
        client.create_collection(name, vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))
        client.upsert(name, [point(item)])
    create_old = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=old, alias_name=alias))
    create_new = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=new, alias_name=alias))
    remove = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=alias))

    client.update_collection_aliases([create_old])
    assert list(stored(client, alias)) == ["old"]
    errors: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        reader = connect(url)
        while not stop.is_set():
            try:
                assert reader.query_points(alias, query=[1.0, 0.0, 0.0, 0.0]).points
            except FAILURES as exc:
                errors.append(exc)
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(10):
        client.update_collection_aliases([remove, create_new])
        client.update_collection_aliases([remove, create_old])
    client.update_collection_aliases([remove, create_new])
    stop.set()
    thread.join()
    assert errors == []

    assert list(stored(client, alias)) == ["new"]
    client.upsert(alias, [point("more")])
    client.create_payload_index(alias, "a", m.PayloadSchemaType.KEYWORD)
    assert client.get_collection(alias).points_count == client.get_collection(new).points_count == 2
    assert set(client.get_collection(new).payload_schema) == {"a"}
    assert client.collection_exists(alias)
    assert [each.alias_name for each in client.get_collection_aliases(new).aliases] == [alias]
    assert (alias, new) in {(each.alias_name, each.collection_name) for each in client.get_aliases().aliases}
    missing = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=new_name(), alias_name=new_name()))
    assert refused(lambda: client.update_collection_aliases([missing])).status_code == 404
    taken = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=new, alias_name=old))
    assert refused(lambda: client.update_collection_aliases([taken])).status_code == 409
    vectors = m.VectorParams(size=4, distance=m.Distance.COSINE)
    assert refused(lambda: client.create_collection(alias, vectors_config=vectors)).status_code == 400

    client.delete_collection(new)
    assert not client.collection_exists(alias), "the alias goes with its collection"
    assert alias not in {each.alias_name for each in client.get_aliases().aliases}
