"""Filters, scrolling, counting and searches on the embedded Qdrant."""

import uuid
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from tests.contract.embedded_qdrant.points import TOKEN, older_than, point, refused, stored

FILTERS: list[tuple[str, m.Filter, str]] = [
    ("match keyword", m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchValue(value="x"))]), "ab"),
    ("match in a list of values", m.Filter(must=[m.FieldCondition(key="tags", match=m.MatchValue(value="t2"))]), "ab"),
    ("match any", m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchAny(any=["y", "z"]))]), "c"),
    ("match except", m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchExcept(**{"except": ["x"]}))]), "c"),
    ("match integer", m.Filter(must=[m.FieldCondition(key="n", match=m.MatchValue(value=1))]), "a"),
    ("match boolean", m.Filter(must=[m.FieldCondition(key="flag", match=m.MatchValue(value=True))]), "b"),
    ("match nested key", m.Filter(must=[m.FieldCondition(key="deep.er.key", match=m.MatchValue(value="v"))]), "a"),
    ("range", m.Filter(must=[m.FieldCondition(key="n", range=m.Range(gt=1, lte=3))]), "bc"),
    (
        "datetime range",
        m.Filter(must=[m.FieldCondition(key="at", range=m.DatetimeRange(gte="2024-05-01T00:00:00Z"))]),  # type: ignore[arg-type]
        "b",
    ),
    ("is empty", m.Filter(must=[m.IsEmptyCondition(is_empty=m.PayloadField(key="tags"))]), "cd"),
    ("is null", m.Filter(must=[m.IsNullCondition(is_null=m.PayloadField(key="nothing"))]), "c"),
    ("has id", m.Filter(must=[m.HasIdCondition(has_id=[point("a").id, point("d").id])]), "ad"),
    ("must not", m.Filter(must_not=[m.FieldCondition(key="kind", match=m.MatchValue(value="x"))]), "cd"),
    (
        "should",
        m.Filter(
            should=[
                m.FieldCondition(key="n", match=m.MatchValue(value=1)),
                m.FieldCondition(key="flag", match=m.MatchValue(value=False)),
            ]
        ),
        "ac",
    ),
    (
        "must of both and a filter within",
        m.Filter(
            must=[
                m.FieldCondition(key="kind", match=m.MatchValue(value="x")),
                m.Filter(must_not=[m.FieldCondition(key="n", range=m.Range(lt=2))]),
            ],
            must_not=[m.HasIdCondition(has_id=[point("a").id])],
        ),
        "b",
    ),
    (
        "nested array, conditions on one element",
        m.Filter(
            must=[
                m.NestedCondition(
                    nested=m.Nested(
                        key="rows",
                        filter=m.Filter(
                            must=[
                                m.FieldCondition(key="x", match=m.MatchValue(value=1)),
                                m.FieldCondition(key="y", match=m.MatchValue(value=1)),
                            ]
                        ),
                    )
                )
            ]
        ),
        "a",
    ),
    ("array element by path", m.Filter(must=[m.FieldCondition(key="rows[].y", match=m.MatchValue(value=1))]), "ab"),
    ("values count", m.Filter(must=[m.FieldCondition(key="tags", values_count=m.ValuesCount(gte=2))]), "a"),
]


@pytest.mark.parametrize(("condition", "expected"), [each[1:] for each in FILTERS], ids=[each[0] for each in FILTERS])
def test_filters_choose_the_same_points_in_every_call(
    client: QdrantClient, collection: str, condition: m.Filter, expected: str
) -> None:
    points = [
        point("a", n=1, kind="x", tags=["t1", "t2"], deep={"er": {"key": "v"}}, rows=[{"x": 1, "y": 1}, {"x": 2}]),
        point("b", n=2, kind="x", tags=["t2"], flag=True, at="2024-05-06T07:08:09Z", rows=[{"x": 1}, {"y": 1}]),
        point("c", n=3, kind="y", tags=[], flag=False, at="2024-04-30T23:59:59+00:00", nothing=None, deep={"er": "v"}),
        point("d", n=1.0),
    ]
    client.upsert(collection, points)
    assert set(stored(client, collection, scroll_filter=condition)) == set(expected)
    assert client.count(collection, count_filter=condition).count == len(expected)
    hits = client.query_points(collection, query=[1.0, 0.0, 0.0, 0.0], query_filter=condition, with_payload=True).points
    assert {(hit.payload or {})["_reindexer"]["item_id"] for hit in hits} == set(expected)
    client.delete(collection, condition)
    assert set(stored(client, collection)) == set("abcd") - set(expected)


def test_scrolling_visits_every_point_once(client: QdrantClient, collection: str) -> None:
    ids = {str(uuid.uuid4()) for _ in range(1234)}
    client.upsert(collection, [m.PointStruct(id=each, vector=[1.0, 0.0, 0.0, 0.0], payload={}) for each in ids])
    seen: list[str] = []
    offset: Any = None
    while True:
        page, offset = client.scroll(collection, limit=100, offset=offset, with_payload=False)
        seen += [str(record.id) for record in page]
        if offset is None:
            break
    assert len(seen) == len(ids)
    assert set(seen) == ids
    assert seen == sorted(seen)


def test_scrolling_in_the_order_of_a_field(client: QdrantClient, collection: str) -> None:
    client.create_payload_index(collection, "n", m.PayloadSchemaType.INTEGER)
    client.upsert(collection, [point(str(n), n=n) for n in (3, 1, 2)])
    records, _ = client.scroll(collection, order_by=m.OrderBy(key="n", direction=m.Direction.DESC), limit=2)
    assert [(record.payload or {})["n"] for record in records] == [3, 2]


def test_values_are_counted(client: QdrantClient, collection: str) -> None:
    client.create_payload_index(collection, "kind", m.PayloadSchemaType.KEYWORD)
    client.upsert(collection, [point(str(n), kind=kind) for n, kind in enumerate("xxy")])
    hits = client.facet(collection, "kind", facet_filter=m.Filter(must=[older_than(TOKEN + 1)])).hits
    assert [(hit.value, hit.count) for hit in hits] == [("x", 2), ("y", 1)]


def test_a_page_holds_what_was_asked_for(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", k=1, l=2)])
    bare, chosen, full = (
        client.scroll(collection, with_payload=payload, with_vectors=vectors)[0][0]
        for payload, vectors in ((False, False), (["k", "_reindexer.item_id"], False), (True, True))
    )
    assert (bare.payload, bare.vector) in [(None, None), ({}, None)]
    assert chosen.payload == {"k": 1, "_reindexer": {"item_id": "a"}}
    assert (full.payload or {})["l"] == 2
    assert np.linalg.norm(np.array(full.vector)) == pytest.approx(1, abs=1e-5), "cosine vectors are kept normalised"


def test_a_search_ranks_by_cosine(client: QdrantClient, collection: str) -> None:
    vectors = {1: [2.0, 0.0, 0.0, 0.0], 2: [1.0, 1.0, 0.0, 0.0], 3: [0.0, 3.0, 0.0, 0.0], 4: [-1.0, 0.0, 0.0, 0.0]}
    client.upsert(collection, [m.PointStruct(id=each, vector=vector) for each, vector in vectors.items()])
    hits = client.query_points(collection, query=[5.0, 0.0, 0.0, 0.0], limit=3).points
    assert [hit.id for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == pytest.approx([1, 0.5**0.5, 0], abs=1e-5)
    near = client.query_points(collection, query=[5.0, 0.0, 0.0, 0.0], score_threshold=0.5, offset=1).points
    assert [hit.id for hit in near] == [2]
    first, second = client.query_batch_points(
        collection,
        [m.QueryRequest(query=[0.0, 1.0, 0.0, 0.0], limit=1), m.QueryRequest(query=1, limit=1, with_payload=True)],
    )
    assert [hit.id for hit in first.points] == [3]
    assert [hit.id for hit in second.points] == [2], "by the id of a point: its nearest but itself"
    assert refused(lambda: client.query_points(collection, query=99)).status_code == 404


def test_groups_hold_the_best_chunk_of_each_item(client: QdrantClient, collection: str) -> None:
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((300, 4))
    points = [point(f"item{row // 6}", chunk=row % 6) for row in range(300)]
    for each, vector in zip(points, vectors, strict=True):
        each.vector = vector.tolist()
    client.upsert(collection, points)
    query = np.array([1.0, 2.0, 3.0, 4.0])
    scores = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    best = sorted(((score, f"item{row // 6}", row % 6) for row, score in enumerate(scores)), reverse=True)
    order = list(dict.fromkeys(item for _, item, _ in best))
    for size in (1, 3):
        groups = client.query_points_groups(
            collection, "_reindexer.item_id", query=query.tolist(), limit=5, group_size=size, with_payload=True
        ).groups
        assert [group.id for group in groups] == order[:5]
        assert len(groups[0].hits) == size
        for group in groups:
            assert group.hits[0].score == pytest.approx(max(s for s, item, _ in best if item == group.id), abs=1e-5)
    few = m.Filter(must=[m.FieldCondition(key="_reindexer.item_id", match=m.MatchAny(any=order[3:5]))])
    groups = client.query_points_groups(
        collection, "_reindexer.item_id", query=query.tolist(), query_filter=few, limit=1, group_size=1
    ).groups
    assert [group.id for group in groups] == [order[3]]


def test_groups_and_points_keep_to_a_threshold_that_the_score_has_to_be_above(
    client: QdrantClient, collection: str
) -> None:
    points = [point(f"item{row // 3}", chunk=row % 3) for row in range(12)]
    for row, each in enumerate(points):
        each.vector = [1.0, row / 12, 0.0, 0.0]
    client.upsert(collection, points)
    query = [1.0, 0.0, 0.0, 0.0]
    scores = [hit.score for hit in client.query_points(collection, query=query, limit=12).points]
    above = client.query_points(collection, query=query, limit=12, score_threshold=scores[5], offset=2).points
    assert [hit.score for hit in above] == scores[2:5], "and neither the sixth nor what is further"
    groups = client.query_points_groups(
        collection, "_reindexer.item_id", query=query, limit=10, group_size=1, score_threshold=scores[5]
    ).groups
    assert [(group.id, len(group.hits)) for group in groups] == [("item0", 1), ("item1", 1)]
    assert client.query_points(collection, query=query, limit=12, offset=12).points == []
    nothing = client.query_points_groups(
        collection, "_reindexer.item_id", query=query, limit=10, group_size=1, score_threshold=1.5
    ).groups
    assert nothing == []
