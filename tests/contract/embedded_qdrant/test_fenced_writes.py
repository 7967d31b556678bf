"""Writes under a condition, payload changes, batches and named vectors on the embedded Qdrant."""

from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from tests.contract.embedded_qdrant.points import TOKEN, NewName, matches, older_than, point, stored, unless_newer


@pytest.mark.parametrize("form", ["list", "batch"])
def test_an_upsert_passes_by_what_is_as_new_or_newer(client: QdrantClient, collection: str, form: str) -> None:
    client.upsert(
        collection,
        [
            point("older", TOKEN - 1, text="before"),
            point("same", TOKEN, text="before"),
            point("newer", TOKEN + 1, text="before"),
            point("unversioned", 0, text="before"),
        ],
    )
    written = [point(item, TOKEN, text="after") for item in ("older", "same", "newer", "unversioned", "new")]
    batch = m.Batch(
        ids=[each.id for each in written],
        vectors=[each.vector for each in written],  # type: ignore[arg-type]
        payloads=[each.payload or {} for each in written],
    )
    client.upsert(collection, written if form == "list" else batch, update_filter=unless_newer(TOKEN))
    assert {item: payload["text"] for item, payload in stored(client, collection).items()} == {
        "older": "after",
        "same": "before",
        "newer": "before",
        "unversioned": "after",
        "new": "after",
    }


def test_versions_come_back_exactly(client: QdrantClient, collection: str) -> None:
    versions = {str(number): TOKEN + number for number in range(20)} | {"largest": 2**53 - 1}
    client.upsert(collection, [point(item, version) for item, version in versions.items()])
    assert {item: each["_reindexer"]["version"] for item, each in stored(client, collection).items()} == versions
    for item, version in versions.items():
        exact = m.Filter(must=[m.FieldCondition(key="_reindexer.version", range=m.Range(gte=version, lt=version + 1))])
        assert list(stored(client, collection, scroll_filter=exact)) == [item]


def test_update_modes_insert_only_and_update_only(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", text="before")])
    client.upsert(collection, [point("a", text="x"), point("b", text="inserted")], update_mode=m.UpdateMode.INSERT_ONLY)
    client.upsert(collection, [point("a", text="updated"), point("c", text="x")], update_mode=m.UpdateMode.UPDATE_ONLY)
    assert {item: each["text"] for item, each in stored(client, collection).items()} == {
        "a": "updated",
        "b": "inserted",
    }


def test_a_fenced_deletion_spares_what_is_newer(client: QdrantClient, collection: str) -> None:
    points = [point("old", TOKEN - 5), point("new", TOKEN + 5), point("other", TOKEN - 5)]
    client.upsert(collection, points)
    chosen = m.HasIdCondition(has_id=[points[0].id, points[1].id])
    client.delete(collection, m.Filter(must=[chosen, older_than(TOKEN)]))
    assert set(stored(client, collection)) == {"new", "other"}
    client.delete(collection, m.Filter(must=[matches("item_id", "other"), older_than(TOKEN)]))
    assert set(stored(client, collection)) == {"new"}
    client.delete(collection, [points[1].id])
    assert client.count(collection).count == 0
    client.upsert(collection, points, update_filter=unless_newer(TOKEN - 5))
    assert len(stored(client, collection)) == 3, "a deleted point fences nothing"


def test_surplus_chunks_go_by_number(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", chunk=chunk) for chunk in range(5)] + [point("b", chunk=4)])
    surplus = m.FieldCondition(key="_reindexer.chunk", range=m.Range(gte=2))
    client.delete(collection, m.Filter(must=[matches("item_id", "a"), surplus, older_than(TOKEN + 1)]))
    left = client.scroll(collection)[0]
    own = [(record.payload or {})["_reindexer"] for record in left]
    assert sorted((each["item_id"], each["chunk"]) for each in own) == [("a", 0), ("a", 1), ("b", 4)]


def test_payload_changes_by_filter_touch_those_points_only(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", TOKEN - 1, k=1), point("b", TOKEN - 1, k=1), point("c", TOKEN + 1, k=1)])
    fenced = m.Filter(
        must=[m.FieldCondition(key="_reindexer.item_id", match=m.MatchAny(any=["a", "c"])), older_than(TOKEN)]
    )
    client.set_payload(collection, {"k": 2, "l": [1]}, points=fenced)
    client.set_payload(collection, {"version": TOKEN}, points=fenced, key="_reindexer")
    after = stored(client, collection)
    assert (after["a"]["k"], after["a"]["l"], after["a"]["_reindexer"]["version"]) == (2, [1], TOKEN)
    assert after["a"]["_reindexer"]["chunk"] == 0, "set_payload merges"
    assert after["b"]["k"] == after["c"]["k"] == 1

    client.overwrite_payload(collection, {"only": True}, points=m.Filter(must=[matches("item_id", "b")]))
    client.delete_payload(collection, ["k"], points=m.Filter(must=[matches("item_id", "c")]))
    assert list(stored(client, collection).values()).count({"only": True}) == 1
    assert "k" not in stored(client, collection)["c"]
    client.clear_payload(collection, [point("c").id])
    assert list(stored(client, collection).values()).count({}) == 1


def test_a_batch_holds_every_kind_of_operation_in_order(client: QdrantClient, collection: str) -> None:
    a, b, c = point("a"), point("b"), point("c")
    every = m.Filter(must=[matches("source", "items")])
    results = client.batch_update_points(
        collection,
        [
            m.UpsertOperation(upsert=m.PointsList(points=[a, b, c], update_filter=unless_newer(TOKEN))),
            m.SetPayloadOperation(set_payload=m.SetPayload(payload={"s": 1, "t": 1}, filter=every)),
            m.DeletePayloadOperation(delete_payload=m.DeletePayload(keys=["t"], points=[a.id])),
            m.OverwritePayloadOperation(overwrite_payload=m.SetPayload(payload={"o": 1}, points=[b.id])),
            m.ClearPayloadOperation(clear_payload=m.PointIdsList(points=[c.id])),
            m.UpdateVectorsOperation(
                update_vectors=m.UpdateVectors(points=[m.PointVectors(id=a.id, vector=[0.0, 0.0, 0.0, 2.0])])
            ),
            m.DeleteOperation(delete=m.PointIdsList(points=[c.id])),
        ],
    )
    assert {each.status for each in results} == {m.UpdateStatus.COMPLETED}
    records = {record.id: record for record in client.scroll(collection, with_vectors=True)[0]}
    assert set(records) == {a.id, b.id}
    assert records[a.id].payload == {**(a.payload or {}), "s": 1}
    assert records[b.id].payload == {"o": 1}
    assert records[a.id].vector == pytest.approx([0.0, 0.0, 0.0, 1.0])


def test_named_vectors_change_and_go_by_themselves(client: QdrantClient, new_name: NewName) -> None:
    name = new_name()
    client.create_collection(
        name,
        vectors_config={"dense": m.VectorParams(size=2, distance=m.Distance.DOT)},
        sparse_vectors_config={"sparse": m.SparseVectorParams()},
    )
    sparse = m.SparseVector(indices=[3, 7], values=[1.0, 2.0])
    client.upsert(name, [m.PointStruct(id=1, vector={"dense": [1.0, 2.0], "sparse": sparse})])
    client.update_vectors(name, [m.PointVectors(id=1, vector={"dense": [3.0, 4.0]})])
    (record,) = client.retrieve(name, [1], with_vectors=True)
    assert record.vector == {"dense": [3.0, 4.0], "sparse": sparse}
    (hit,) = client.query_points(name, query=m.SparseVector(indices=[7], values=[1.0]), using="sparse").points
    assert hit.score == pytest.approx(2)
    client.delete_vectors(name, ["sparse"], points=[1])
    (record,) = client.retrieve(name, [1], with_vectors=True)
    assert record.vector == {"dense": [3.0, 4.0]}


def test_vectors_are_answered_with_the_digits_of_single_precision(client: QdrantClient, new_name: NewName) -> None:
    name = new_name()
    client.create_collection(
        name,
        vectors_config={
            "one": m.VectorParams(size=2, distance=m.Distance.DOT),
            "rows": m.VectorParams(
                size=1, distance=m.Distance.DOT,
                multivector_config=m.MultiVectorConfig(comparator=m.MultiVectorComparator.MAX_SIM),
            ),
        },
    )  # fmt: skip
    written: Any = {"one": [0.1, 1 / 3], "rows": [[0.7], [1e-9]]}
    client.upsert(name, [m.PointStruct(id=1, vector=written)])
    short = {"one": [0.1, 0.33333334], "rows": [[0.7], [1e-9]]}
    (retrieved,) = client.retrieve(name, [1], with_vectors=True)
    (scrolled,), _ = client.scroll(name, with_vectors=True)
    (found,) = client.query_points(name, query=[1.0, 0.0], using="one", with_vectors=True).points
    for each in (retrieved, scrolled, found):
        assert each.vector == short
