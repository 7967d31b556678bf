"""What every `Index` guarantees: of two writes to one point, the one with the higher token stays, in any order.

Runs over REST on the embedded server, and over REST and gRPC where a real server is given in REINDEXER_TEST_QDRANT_URL.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.errors import DependencyUnavailable, OtherEmbedder, SourceError, TransientError
from reindexer.core.items import StoredPoint, point_id
from reindexer.core.owner import Owner
from reindexer.core.text.batching import slices
from reindexer.core.text.chunks import Span
from reindexer.ports import Collection, Point
from tests.contract.conftest import OWNER, SIZE
from tests.support.garbage import left_behind
from tests.support.provider import vector_of

NOW = 1_800_000_000_000_000


def point(text: str, item_id: str = "1", chunk: int = 0) -> Point:
    return Point(item_id, chunk, vector_of(text, SIZE), {"text": text}, f"print of {text}", Span(0, len(text)))


def stored(client: QdrantClient, collection: Collection, item_id: str = "1", chunk: int = 0) -> str | None:
    records = client.retrieve(collection.alias, [point_id(collection.source, item_id, chunk)], with_vectors=True)
    if not records:
        return None
    return str((records[0].payload or {})["text"])


def test_an_answer_does_not_wait_for_the_garbage_collector(index: QdrantIndex, collection: Collection) -> None:
    assert left_behind(httpx.Response, lambda: index.upsert(collection, [point("new")], NOW, 5)) == 0


def test_the_higher_token_stays_in_any_order(index: QdrantIndex, client: QdrantClient, collection: Collection) -> None:
    index.upsert(collection, [point("new")], NOW + 1, 5)
    index.upsert(collection, [point("old")], NOW, 5)
    assert stored(client, collection) == "new"
    assert index.tokens(collection, [("1", 0)], 5) == {("1", 0): NOW + 1}
    index.upsert(collection, [point("newer")], NOW + 2, 5)
    assert stored(client, collection) == "newer"


def test_a_batch_writes_new_points_and_leaves_those_that_are_newer(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.upsert(collection, [point("kept", "a")], NOW + 5, 5)
    index.upsert(collection, [point("lost", "a"), point("fresh", "b")], NOW, 5)
    assert stored(client, collection, "a") == "kept"
    assert stored(client, collection, "b") == "fresh"
    assert index.tokens(collection, [("a", 0), ("b", 0), ("c", 0)], 5) == {("a", 0): NOW + 5, ("b", 0): NOW}


def test_a_late_delete_spares_what_is_newer(index: QdrantIndex, client: QdrantClient, collection: Collection) -> None:
    index.upsert(collection, [point("new", "a"), point("x", "b")], NOW + 1, 5)
    index.delete_items(collection, ["a"], NOW, 5)
    assert stored(client, collection, "a") == "new"
    index.delete_items(collection, ["a"], NOW + 2, 5)
    assert stored(client, collection, "a") is None
    assert stored(client, collection, "b") == "x"


def test_a_late_payload_update_is_refused(index: QdrantIndex, client: QdrantClient, collection: Collection) -> None:
    index.upsert(collection, [point("new")], NOW + 1, 5)
    late = Point("1", 0, None, {"text": "late"}, "print of new", Span(0, 4))
    index.update_payload(collection, [late], NOW, 5)
    assert stored(client, collection) == "new"
    index.update_payload(collection, [late], NOW + 2, 5)
    record = client.retrieve(collection.alias, [point_id(collection.source, "1", 0)], with_vectors=True)[0]
    assert (record.payload or {})["text"] == "late"
    assert np.allclose(np.asarray(record.vector), vector_of("new", SIZE), atol=1e-4)
    assert index.tokens(collection, [("1", 0)], 5) == {("1", 0): NOW + 2}


def test_a_payload_update_of_a_missing_point_writes_none(index: QdrantIndex, collection: Collection) -> None:
    index.update_payload(collection, [Point("9", 0, None, {"text": "x"}, "p", Span(0, 1))], NOW, 5)
    assert index.tokens(collection, [("9", 0)], 5) == {}


def test_surplus_chunks_are_deleted_and_newer_ones_spared(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.upsert(collection, [point(f"c{n}", "a", n) for n in range(5)], NOW, 5)
    index.upsert(collection, [point("c4 new", "a", 4)], NOW + 5, 5)
    index.delete_surplus(collection, {"a": 2}, NOW + 1, 5)
    left = [n for n in range(5) if stored(client, collection, "a", n)]
    assert left == [0, 1, 4]


def test_search_finds_the_nearest_first_by_the_alias(index: QdrantIndex, collection: Collection) -> None:
    index.upsert(collection, [point(f"text {n}", str(n)) for n in range(20)], NOW, 5)
    hits = index.search(collection, vector_of("text 7", SIZE), 3)
    assert len(hits) == 3
    assert hits[0].item_id == "7"
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert hits[0].payload == {"text": "text 7"}


def test_preparing_twice_is_harmless_and_other_dimensions_are_an_error(
    index: QdrantIndex, collection: Collection
) -> None:
    index.prepare(collection, SIZE, OWNER)
    with pytest.raises(SourceError, match=f"holds vectors of {SIZE} dimensions"):
        index.prepare(collection, SIZE + 1, OWNER)


def test_a_touch_changes_nothing_and_tells_other_dimensions_and_a_collection_that_is_gone(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.upsert(collection, [point("text")], NOW, 5)
    index.touch(collection, SIZE, 5)
    assert stored(client, collection) == "text"
    assert index.tokens(collection, [("1", 0)], 5) == {("1", 0): NOW}
    with pytest.raises(SourceError, match=f"holds vectors of {SIZE} dimensions"):
        index.touch(collection, SIZE + 1, 5)
    client.delete_collection(collection.name)
    with pytest.raises(TransientError, match="no such collection"):
        index.touch(collection, SIZE, 5)


def test_a_foreign_collection_of_the_aliases_name_is_an_error(index: QdrantIndex, client: QdrantClient) -> None:
    name = f"contract_{uuid.uuid4().hex[:12]}"
    client.create_collection(name, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    try:
        with pytest.raises(SourceError, match="not ours"):
            index.prepare(Collection("s", f"{name}__g1", name), SIZE, OWNER)
    finally:
        client.delete_collection(name)


def test_payload_fields_of_fencing_are_indexed(client: QdrantClient, collection: Collection) -> None:
    schema = client.get_collection(collection.name).payload_schema
    assert {"_reindexer.item_id", "_reindexer.version", "_reindexer.chunk"} <= set(schema)


def test_a_lost_collection_is_a_passing_error_and_an_empty_search(index: QdrantIndex) -> None:
    lost = Collection("s", "contract_nothing__g1", "contract_nothing")
    with pytest.raises(TransientError):
        index.upsert(lost, [point("x")], NOW, 5)
    assert index.search(lost, vector_of("x", SIZE), 3) == []


def test_a_server_that_is_not_there_is_away() -> None:
    with pytest.raises(DependencyUnavailable):
        QdrantIndex("http://127.0.0.1:9", api_key=None, grpc_port=None).ping()


def scrolled(index: QdrantIndex, collection: Collection, limit: int) -> tuple[list[StoredPoint], int, int]:
    """All points of the source, how many foreign ones there are, and how many pages that took."""
    points, foreign, pages, start = list[StoredPoint](), 0, 0, None
    while True:
        page = index.scroll(collection, start, limit, 5)
        points, foreign, pages, start = [*points, *page.points], foreign + page.foreign, pages + 1, page.next
        if start is None:
            return points, foreign, pages


def test_scrolling_by_pages_tells_each_point_once_with_its_facts(index: QdrantIndex, collection: Collection) -> None:
    index.upsert(collection, [point(f"text {n}", str(n)) for n in range(25)], NOW, 5)
    index.upsert(collection, [point("second", "3", 1)], NOW + 7, 5)
    points, foreign, pages = scrolled(index, collection, 10)
    assert (len(points), foreign, pages) == (26, 0, 3)
    assert {(p.item_id, p.chunk) for p in points} == {("3", 1), *((str(n), 0) for n in range(25))}
    (second,) = [p for p in points if p.chunk == 1]
    assert (second.token, second.fingerprint, second.payload) == (NOW + 7, "print of second", None)


def test_scrolling_counts_what_is_not_the_sources_and_tells_none_of_it(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.upsert(collection, [point("ours")], NOW, 5)
    facts = {"source": collection.source, "item_id": "2", "chunk": 0, "version": NOW, "fingerprint": "x"}
    foreign: list[tuple[int | str, dict[str, object]]] = [
        (1, {}),
        (str(uuid.uuid4()), {"_reindexer": "nothing of ours"}),
        (str(uuid.uuid4()), {"_reindexer": facts}),  # under an id that is not ours
        (point_id("other", "2", 0), {"_reindexer": {**facts, "source": "other"}}),
        (point_id(collection.source, "2", 0), {"_reindexer": {**facts, "version": "new"}}),
        (point_id(collection.source, "\x00", 0), {"_reindexer": {**facts, "item_id": "\x00"}}),
    ]
    client.upsert(
        collection.name,
        [models.PointStruct(id=i, vector=vector_of("x", SIZE).tolist(), payload=payload) for i, payload in foreign],
        wait=True,
    )
    points, count, _ = scrolled(index, collection, 2)
    assert [p.item_id for p in points] == ["1"]
    assert count == len(foreign)


def test_all_points_of_items_are_found_however_many_there_are(index: QdrantIndex, collection: Collection) -> None:
    points = [replace(point("x", "a"), chunk=chunk) for chunk in range(1_500)]
    for some in slices([*points, point("y", "b"), point("z", "c")], 250):
        index.upsert(collection, some, NOW, 10)
    found = index.points_of(collection, ["a", "b", "d"], 10)
    assert {(each.item_id, each.chunk) for each in found} == {("a", n) for n in range(1_500)} | {("b", 0)}
    assert len(found) == 1_501
    assert {(each.token, each.span, each.payload) for each in found} == {(NOW, points[0].span, None)}
    assert index.points_of(replace(collection, name="context_items__g9"), ["a"], 5) == []


def test_stored_points_are_told_with_their_payload_whatever_they_say_of_themselves(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.upsert(collection, [point("x", "a"), point("y", "b")], NOW, 5)
    client.overwrite_payload(collection.name, {"text": "z"}, [point_id(collection.source, "b", 0)], wait=True)
    assert index.stored(collection, [("a", 0), ("b", 0), ("c", 0)], 5) == {
        ("a", 0): StoredPoint("a", 0, NOW, "print of x", {"text": "x"}, point("x", "a").span),
        ("b", 0): StoredPoint("b", 0, 0, "", {"text": "z"}),
    }


def test_a_lost_collection_holds_no_points(index: QdrantIndex) -> None:
    lost = Collection("s", "contract_nothing__g1", "contract_nothing")
    assert scrolled(index, lost, 10) == ([], 0, 1)
    assert index.stored(lost, [("a", 0)], 5) == {}


def test_a_collection_keeps_its_id_until_it_is_lost(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    first = index.prepare(collection, SIZE, OWNER)
    assert first
    assert index.prepare(collection, SIZE, OWNER) == first
    client.delete_collection(collection.name)
    second = index.prepare(collection, SIZE, OWNER)
    assert second
    assert second != first


def test_a_collection_belongs_to_the_database_that_made_it(index: QdrantIndex, collection: Collection) -> None:
    assert index.owner(collection) == OWNER
    with pytest.raises(SourceError, match=r"belongs to another database \(1/2; this is 1/3\).*`reindexer adopt`"):
        index.prepare(collection, SIZE, Owner("1/3", "e"))
    assert index.owner(collection) == OWNER
    index.prepare(collection, SIZE, Owner(None, "e"))  # a role that may not ask the server is let in
    assert index.owner(collection) == OWNER


def test_a_collection_belongs_to_the_model_that_made_it(index: QdrantIndex, collection: Collection) -> None:
    with pytest.raises(OtherEmbedder, match="are made by e, the settings here say other model"):
        index.prepare(collection, SIZE, Owner("1/2", "other model"))
    assert index.owner(collection) == OWNER


def test_an_adopted_collection_belongs_to_another_database(index: QdrantIndex, collection: Collection) -> None:
    index.adopt(collection, Owner("1/3"))
    assert index.owner(collection) == Owner("1/3", "e")
    index.prepare(collection, SIZE, Owner("1/3", "e"))
    with pytest.raises(SourceError, match="belongs to another database"):
        index.prepare(collection, SIZE, OWNER)


def test_a_collection_of_nobody_is_taken_by_the_first_that_prepares_it(
    index: QdrantIndex, client: QdrantClient
) -> None:
    name = f"contract_{uuid.uuid4().hex[:12]}"
    old = Collection(name, f"{name}__g1", name)
    assert index.owner(old) == Owner(None)
    index.adopt(old, OWNER)
    client.create_collection(
        old.name, vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE),
        metadata={"of": "the user"},
    )  # fmt: skip
    try:
        assert index.owner(old) == Owner(None)
        assert index.prepare(old, SIZE, OWNER) is None, "it was not made by us"
        assert index.owner(old) == OWNER
        assert (client.get_collection(old.name).config.metadata or {})["of"] == "the user"
    finally:
        client.delete_collection(old.name)
