"""`QdrantIndex` keeps the contract of every `Index`; and what it does with collections and points that are not ours.

Runs over REST on the embedded server, and over REST and gRPC where a real server is given in REINDEXER_TEST_QDRANT_URL.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

import httpx
import pytest
from qdrant_client import QdrantClient, models

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.errors import DependencyUnavailable, SourceError, UnfitRequest
from reindexer.core.filters import parse_filter
from reindexer.core.items import StoredPoint, point_id
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.core.profile import Distance, Profile
from reindexer.core.search_terms import GROUPS, Group, SearchTerms
from reindexer.ports import Collection, Index
from reindexer.testing.filters import FilteringIndexContract
from reindexer.testing.indexes import NOW, OWNER, SIZE, point, scrolled
from reindexer.testing.keywords import NEW, OLD, KeywordIndexContract
from reindexer.testing.provider import vector_of
from tests.support.garbage import left_behind
from tests.support.other_qdrant import batches_in_parts, of_version, silent_about_collections
from tests.support.servers import Servers


class TestQdrantIndex(FilteringIndexContract):
    @pytest.fixture
    def index(self, index: QdrantIndex) -> Index:
        return index


class TestQdrantKeywords(KeywordIndexContract):
    @pytest.fixture
    def index(self, index: QdrantIndex) -> Index:
        return index


def test_a_point_whose_keywords_were_lost_meanwhile_keeps_its_token(
    servers: Servers, index: QdrantIndex, collection: Collection
) -> None:
    """Qdrant applies the operations of a request one after the other. Between two of them, a late claim that knows of no
    keywords may write the point once more."""
    having = replace(collection, keywords=True)
    index.prepare(having, SIZE, OWNER)
    index.upsert(having, [replace(point("a"), keywords=OLD)], NOW, 5)

    def late_claim() -> None:
        index.upsert(collection, [point("a")], NOW + 1, 5)

    with batches_in_parts(servers.qdrant_url, late_claim) as url:
        slow = QdrantIndex(url, api_key=None, grpc_port=None, timeout_s=10)
        slow.update_payload(having, [replace(point("a"), vector=None, keywords=NEW)], NOW + 2, 5)
    assert index.tokens(having, [("1", 0)], 5) == {("1", 0): NOW + 1}
    assert index.stored(having, [("1", 0)], 5)["1", 0].keywords is None


def test_an_older_server_refuses_what_it_can_not_keep_of_keywords(
    servers: Servers, index: QdrantIndex, collection: Collection
) -> None:
    having = replace(collection, keywords=True)
    own = parse_filter({"tenant": "a"}, [PayloadColumn("tenant", "keyword")])
    with of_version(servers.qdrant_url, "1.18.2") as url:
        older = QdrantIndex(url, api_key=None, grpc_port=None, timeout_s=10)
        older.prepare(having, SIZE, OWNER)
        assert older.search(having, None, SearchTerms(3), keywords=[NEW]) == []
        with pytest.raises(UnfitRequest, match=r"Qdrant is 1\.18\.2.*mode meaning"):
            older.search(having, None, SearchTerms(3, where=own, corpus=own), keywords=[NEW])
    with of_version(servers.qdrant_url, "1.17.0") as url:
        older = QdrantIndex(url, api_key=None, grpc_port=None, timeout_s=10)
        plain = Collection(f"{collection.source}_c", f"{collection.alias}_c__g1", f"{collection.alias}_c")
        older.prepare(plain, SIZE, OWNER)
        try:
            with pytest.raises(SourceError, match=f"from 1.18 on; `reindexer rebuild {plain.source}`"):
                older.prepare(replace(plain, keywords=True), SIZE, OWNER)
        finally:
            index.drop(plain)


def test_a_search_that_is_refused_by_a_qdrant_that_goes_away_then_is_not_served(
    servers: Servers, collection: Collection
) -> None:
    with silent_about_collections(servers.qdrant_url) as url:
        away = QdrantIndex(url, api_key=None, grpc_port=None, timeout_s=5)
        with pytest.raises(DependencyUnavailable):
            away.search(collection, vector_of("a", SIZE + 1), SearchTerms(5))


def test_a_search_asks_the_collection_by_its_own_name(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    """Wherever the alias is, a vector of one generation's model meets the points of that generation only."""
    index.upsert(collection, [point("x")], NOW, 5)
    client.update_collection_aliases(
        [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=collection.alias))]
    )
    assert [hit.item_id for hit in index.search(collection, vector_of("x", SIZE), SearchTerms(3))] == ["1"]


@pytest.mark.parametrize("group", GROUPS)
def test_a_search_finds_no_point_of_another_source(
    index: QdrantIndex, client: QdrantClient, collection: Collection, group: Group
) -> None:
    index.upsert(collection, [point("ours"), point("second", chunk=1)], NOW, 5)
    facts = {"source": "other", "item_id": "1", "chunk": 0, "version": NOW, "fingerprint": "x", "span": [0, 1]}
    client.upsert(
        collection.name,
        [
            models.PointStruct(
                id=point_id("other", item_id, 0),
                vector=vector_of("ours", SIZE).tolist(),
                payload={"text": "foreign", "_reindexer": {**facts, "item_id": item_id}},
            )
            for item_id in ("1", "2")
        ],
        wait=True,
    )
    hits = index.search(collection, vector_of("ours", SIZE), SearchTerms(10, group=group))
    assert [hit.payload["text"] for hit in hits] == (["ours"] if group == "item" else ["ours", "second"])
    assert len(index.vectors_of(collection, "1", (), 10)) == 2


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("distance", ["dot", "euclid", "manhattan"])
def test_the_least_score_is_the_largest_where_a_smaller_one_is_nearer(
    index: QdrantIndex, client: QdrantClient, distance: Distance, group: Group
) -> None:
    name = f"contract_{uuid.uuid4().hex[:12]}"
    collection = Collection(name, f"{name}__g1", name, Profile(distance=distance))
    index.prepare(collection, SIZE, OWNER)
    try:
        index.upsert(collection, [point(f"text {n}", str(n)) for n in range(20)], NOW, 5)
        wanted = vector_of("text 7", SIZE)
        whole = index.search(collection, wanted, SearchTerms(20, group=group))
        assert (whole[0].item_id, len(whole)) == ("7", 20)
        for place in (0, 4, 11):
            terms = SearchTerms(20, min_score=whole[place].score, group=group)
            assert index.search(collection, wanted, terms) == whole[: place + 1]
    finally:
        client.delete_collection(collection.name)


def test_an_answer_does_not_wait_for_the_garbage_collector(index: QdrantIndex, collection: Collection) -> None:
    assert left_behind(httpx.Response, lambda: index.upsert(collection, [point("new")], NOW, 5)) == 0


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


def test_a_server_that_is_not_there_is_away() -> None:
    with pytest.raises(DependencyUnavailable):
        QdrantIndex("http://127.0.0.1:9", api_key=None, grpc_port=None).ping()


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


def test_stored_points_are_told_with_their_payload_whatever_they_say_of_themselves(
    index: QdrantIndex, client: QdrantClient, collection: Collection
) -> None:
    index.upsert(collection, [point("x", "a"), point("y", "b")], NOW, 5)
    client.overwrite_payload(collection.name, {"text": "z"}, [point_id(collection.source, "b", 0)], wait=True)
    assert index.stored(collection, [("a", 0), ("b", 0), ("c", 0)], 5) == {
        ("a", 0): StoredPoint("a", 0, NOW, "print of x", {"text": "x"}, point("x", "a").span),
        ("b", 0): StoredPoint("b", 0, 0, "", {"text": "z"}),
    }


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
