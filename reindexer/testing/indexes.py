"""What every `Index` guarantees: of two writes to one point, the one with the higher token stays, in any order.

Inherit from the class, and give it the fixture `index`. (An index with filters: `reindexer.testing.filters`.)

    class TestAcmeIndex(IndexContract):
        @pytest.fixture
        def index(self, tmp_path: Path) -> Index:
            return registry.index("acme", IndexConfig(str(tmp_path / "vectors.db")))
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from reindexer.core.errors import OtherEmbedder, SourceError, TransientError
from reindexer.core.items import StoredPoint
from reindexer.core.owner import Owner
from reindexer.core.search_terms import GROUPS, Group, SearchTerms
from reindexer.core.text.batching import slices
from reindexer.core.text.chunks import Span
from reindexer.ports import Collection, Index, Point
from reindexer.testing.provider import vector_of

SIZE = 16
OWNER = Owner("1/2", "e")
NOW = 1_800_000_000_000_000
"""A token, as claims have them."""
TIMEOUT_S = 10.0


def point(text: str, item_id: str = "1", chunk: int = 0) -> Point:
    """A point whose payload holds its text."""
    return Point(item_id, chunk, vector_of(text, SIZE), {"text": text}, f"print of {text}", Span(0, len(text)))


def text_of(index: Index, collection: Collection, item_id: str = "1", chunk: int = 0) -> str | None:
    """The text that a point holds; None: there is no such point."""
    found = index.stored(collection, [(item_id, chunk)], TIMEOUT_S).get((item_id, chunk))
    return None if found is None else str((found.payload or {})["text"])


def scrolled(index: Index, collection: Collection, limit: int) -> tuple[list[StoredPoint], int, int]:
    """All points of the source, how many foreign ones there are, and how many pages that took."""
    points, foreign, pages, start = list[StoredPoint](), 0, 0, None
    while True:
        page = index.scroll(collection, start, limit, TIMEOUT_S)
        points, foreign, pages, start = [*points, *page.points], foreign + page.foreign, pages + 1, page.next
        if start is None:
            return points, foreign, pages


@contextmanager
def own_collection(index: Index, *, keywords: bool = False) -> Iterator[Collection]:
    """A new collection, without points. It is dropped afterwards."""
    alias = f"contract_{uuid.uuid4().hex[:12]}"
    collection = Collection(alias, f"{alias}__g1", alias, keywords=keywords)
    index.prepare(collection, SIZE, OWNER)
    yield collection
    index.drop(collection)


class IndexContract:
    """Tests of one index. They make collections of their own, and drop them."""

    @pytest.fixture
    def index(self) -> Index:
        """The index to test."""
        raise NotImplementedError("define the fixture `index`")

    @pytest.fixture
    def collection(self, index: Index) -> Iterator[Collection]:
        """A collection without points."""
        with own_collection(index) as collection:
            yield collection

    @pytest.fixture
    def lost(self) -> Collection:
        """A collection that does not exist."""
        return Collection("s", "contract_nothing__g1", "contract_nothing")

    def test_it_answers(self, index: Index) -> None:
        index.ping()

    def test_the_higher_token_stays_in_any_order(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point("new")], NOW + 1, TIMEOUT_S)
        index.upsert(collection, [point("old")], NOW, TIMEOUT_S)
        index.upsert(collection, [point("same")], NOW + 1, TIMEOUT_S)
        assert text_of(index, collection) == "new"
        assert index.tokens(collection, [("1", 0)], TIMEOUT_S) == {("1", 0): NOW + 1}
        index.upsert(collection, [point("newer")], NOW + 2, TIMEOUT_S)
        assert text_of(index, collection) == "newer"

    def test_of_writes_at_the_same_time_the_one_with_the_highest_token_stays(
        self, index: Index, collection: Collection
    ) -> None:
        tokens = [NOW + n for n in (3, 7, 1, 5, 0, 6, 2, 4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda token: index.upsert(collection, [point(f"{token}")], token, TIMEOUT_S), tokens))
        assert text_of(index, collection) == f"{NOW + 7}"

    def test_a_batch_writes_new_points_and_leaves_those_that_are_newer(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [point("kept", "a")], NOW + 5, TIMEOUT_S)
        index.upsert(collection, [point("lost", "a"), point("fresh", "b")], NOW, TIMEOUT_S)
        assert text_of(index, collection, "a") == "kept"
        assert text_of(index, collection, "b") == "fresh"
        found = index.tokens(collection, [("a", 0), ("b", 0), ("c", 0)], TIMEOUT_S)
        assert found == {("a", 0): NOW + 5, ("b", 0): NOW}

    def test_a_late_delete_spares_what_is_newer(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point("new", "a"), point("x", "b")], NOW + 1, TIMEOUT_S)
        index.delete_items(collection, ["a"], NOW, TIMEOUT_S)
        index.delete_items(collection, ["a"], NOW + 1, TIMEOUT_S)
        assert text_of(index, collection, "a") == "new"
        index.delete_items(collection, ["a", "nothing"], NOW + 2, TIMEOUT_S)
        assert text_of(index, collection, "a") is None
        assert text_of(index, collection, "b") == "x"

    def test_a_late_payload_update_is_refused(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point("new")], NOW + 1, TIMEOUT_S)
        late = Point("1", 0, None, {"text": "late"}, "print of new", Span(0, 4))
        index.update_payload(collection, [late], NOW, TIMEOUT_S)
        assert text_of(index, collection) == "new"
        index.update_payload(collection, [late], NOW + 2, TIMEOUT_S)
        assert text_of(index, collection) == "late"
        found = index.vectors(collection, [("1", 0), ("2", 0)], TIMEOUT_S)
        assert list(found) == [("1", 0)]
        assert np.allclose(found["1", 0].vector, vector_of("new", SIZE), atol=1e-4)
        assert index.tokens(collection, [("1", 0)], TIMEOUT_S) == {("1", 0): NOW + 2}

    def test_a_vector_comes_with_the_fingerprint_that_was_written_with_it(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [point("old"), point("b", "2")], NOW, TIMEOUT_S)
        index.upsert(collection, [point("new")], NOW + 1, TIMEOUT_S)
        found = index.vectors(collection, [("1", 0), ("2", 0), ("3", 0)], TIMEOUT_S)
        assert {place: each.fingerprint for place, each in found.items()} == {
            ("1", 0): "print of new", ("2", 0): "print of b",
        }  # fmt: skip
        assert np.allclose(found["1", 0].vector, vector_of("new", SIZE), atol=1e-4)
        assert index.datatype(collection) == "float32"

    def test_a_payload_is_not_written_beside_the_vector_of_another_text(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [point("one")], NOW, TIMEOUT_S)
        other = Point("1", 0, None, {"text": "other"}, "print of other", Span(0, 5))
        index.update_payload(collection, [other], NOW + 1, TIMEOUT_S)
        assert text_of(index, collection) == "one"

    def test_a_payload_update_of_a_missing_point_writes_none(self, index: Index, collection: Collection) -> None:
        index.update_payload(collection, [Point("9", 0, None, {"text": "x"}, "p", Span(0, 1))], NOW, TIMEOUT_S)
        assert index.tokens(collection, [("9", 0)], TIMEOUT_S) == {}

    def test_surplus_chunks_are_deleted_and_newer_ones_spared(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point(f"c{n}", "a", n) for n in range(5)], NOW, TIMEOUT_S)
        index.upsert(collection, [point("c4 new", "a", 4)], NOW + 5, TIMEOUT_S)
        index.delete_surplus(collection, {"a": 2}, NOW + 1, TIMEOUT_S)
        left = [n for n in range(5) if text_of(index, collection, "a", n)]
        assert left == [0, 1, 4]

    def test_search_finds_the_nearest_first(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point(f"text {n}", str(n)) for n in range(20)], NOW, TIMEOUT_S)
        hits = index.search(collection, vector_of("text 7", SIZE), SearchTerms(3))
        assert len(hits) == 3
        assert hits[0].item_id == "7"
        assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert hits[0].payload == {"text": "text 7"}
        assert hits[0].span == (0, 6)
        assert hits[0].fingerprint == "print of text 7"
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_an_exact_search_compares_with_every_point(self, index: Index, collection: Collection) -> None:
        texts = [f"text {n}" for n in range(300)]
        for some in slices([point(text, str(n)) for n, text in enumerate(texts)], 100):
            index.upsert(collection, some, NOW, TIMEOUT_S)
        wanted = vector_of("text 7", SIZE)
        nearest = sorted(range(300), key=lambda n: -float(vector_of(texts[n], SIZE) @ wanted))[:10]
        hits = index.search(collection, wanted, SearchTerms(10), exact=True)
        assert [hit.item_id for hit in hits] == [str(n) for n in nearest]

    def test_search_finds_each_item_once_by_its_nearest_chunk(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point(f"text {n}", "a", n) for n in range(5)], NOW, TIMEOUT_S)
        index.upsert(collection, [point("other", "b")], NOW, TIMEOUT_S)
        hits = index.search(collection, vector_of("text 3", SIZE), SearchTerms(10))
        assert (hits[0].item_id, hits[0].chunk) == ("a", 3)
        assert sorted(hit.item_id for hit in hits) == ["a", "b"]

    def test_each_chunk_is_a_hit_where_that_is_asked_for(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point(f"text {n}", "a", n) for n in range(5)], NOW, TIMEOUT_S)
        index.upsert(collection, [point("other", "b")], NOW, TIMEOUT_S)
        wanted = vector_of("text 3", SIZE)
        hits = index.search(collection, wanted, SearchTerms(10, group="chunk"))
        assert (hits[0].item_id, hits[0].chunk, hits[0].fingerprint) == ("a", 3, "print of text 3")
        assert sorted((hit.item_id, hit.chunk) for hit in hits) == [*(("a", n) for n in range(5)), ("b", 0)]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @pytest.mark.parametrize("group", GROUPS)
    def test_pages_of_hits_follow_one_another_and_end(self, index: Index, collection: Collection, group: Group) -> None:
        points = [point(f"text {n}.{chunk}", str(n), chunk) for n in range(10) for chunk in range(3)]
        index.upsert(collection, points, NOW, TIMEOUT_S)
        wanted, size = vector_of("text 7.1", SIZE), 10 if group == "item" else 30
        whole = index.search(collection, wanted, SearchTerms(30, group=group))
        assert len(whole) == size
        for offset in (0, 1, 7, size - 1, size, 900):
            page = index.search(collection, wanted, SearchTerms(4, offset, group=group))
            assert [(hit.item_id, hit.chunk) for hit in page] == [
                (hit.item_id, hit.chunk) for hit in whole[offset : offset + 4]
            ]

    @pytest.mark.parametrize("group", GROUPS)
    def test_a_hit_has_at_least_the_least_score(self, index: Index, collection: Collection, group: Group) -> None:
        index.upsert(collection, [point(f"text {n}", str(n)) for n in range(20)], NOW, TIMEOUT_S)
        wanted = vector_of("text 7", SIZE)
        whole = index.search(collection, wanted, SearchTerms(20, group=group))
        least = whole[4].score
        hits = index.search(collection, wanted, SearchTerms(20, min_score=least, group=group))
        assert [hit.item_id for hit in hits] == [hit.item_id for hit in whole[:5]]
        after = index.search(collection, wanted, SearchTerms(20, 2, min_score=least, group=group))
        assert [hit.item_id for hit in after] == [hit.item_id for hit in whole[2:5]]
        assert index.search(collection, wanted, SearchTerms(20, min_score=1.5, group=group)) == []

    @pytest.mark.parametrize("group", GROUPS)
    def test_an_item_that_is_excluded_is_no_hit_by_any_chunk(
        self, index: Index, collection: Collection, group: Group
    ) -> None:
        index.upsert(collection, [point(f"text {n}", "a", n) for n in range(5)], NOW, TIMEOUT_S)
        index.upsert(collection, [point("other", "b"), point("third", "c")], NOW, TIMEOUT_S)
        terms = SearchTerms(2, group=group, without_item="a")
        hits = index.search(collection, vector_of("text 3", SIZE), terms)
        assert sorted(hit.item_id for hit in hits) == ["b", "c"]

    def test_the_vectors_of_an_item_are_those_of_its_points(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point(f"text {n}", "a", n) for n in range(3)], NOW, TIMEOUT_S)
        index.upsert(collection, [point("other", "b")], NOW, TIMEOUT_S)
        found = index.vectors_of(collection, "a", (), 10)
        wanted = [vector_of(f"text {n}", SIZE) for n in range(3)]
        assert sorted(int(np.argmax([one @ each for each in wanted])) for one in found) == [0, 1, 2]
        assert all(max(one @ each for each in wanted) == pytest.approx(1, abs=1e-3) for one in found)
        assert len(index.vectors_of(collection, "a", (), 2)) == 2
        assert index.vectors_of(collection, "c", (), 10) == []

    def test_preparing_twice_is_harmless_and_other_dimensions_are_an_error(
        self, index: Index, collection: Collection
    ) -> None:
        index.prepare(collection, SIZE, OWNER)
        with pytest.raises(SourceError, match=f"holds vectors of {SIZE} dimensions"):
            index.prepare(collection, SIZE + 1, OWNER)

    def test_a_touch_changes_nothing_and_tells_other_dimensions_and_a_collection_that_is_gone(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [point("text")], NOW, TIMEOUT_S)
        index.touch(collection, SIZE, TIMEOUT_S)
        assert text_of(index, collection) == "text"
        assert index.tokens(collection, [("1", 0)], TIMEOUT_S) == {("1", 0): NOW}
        with pytest.raises(SourceError, match=f"holds vectors of {SIZE} dimensions"):
            index.touch(collection, SIZE + 1, TIMEOUT_S)
        index.drop(collection)
        with pytest.raises(TransientError, match="no such collection"):
            index.touch(collection, SIZE, TIMEOUT_S)

    def test_a_lost_collection_is_a_transient_error_for_a_write_and_empty_for_a_read(
        self, index: Index, lost: Collection
    ) -> None:
        with pytest.raises(TransientError):
            index.upsert(lost, [point("x")], NOW, TIMEOUT_S)
        assert index.search(lost, vector_of("x", SIZE), SearchTerms(3)) == []
        assert index.search(lost, vector_of("x", SIZE), SearchTerms(3, group="chunk")) == []
        assert index.vectors_of(lost, "a", (), 10) == []
        assert scrolled(index, lost, 10) == ([], 0, 1)
        assert index.stored(lost, [("a", 0)], TIMEOUT_S) == {}
        assert index.points_of(lost, ["a"], TIMEOUT_S) == []
        assert index.owner(lost) == Owner(None)
        assert index.datatype(lost) is None
        assert not index.follow_alias(lost)
        index.adopt(lost, OWNER)
        index.drop(lost)
        assert index.owner(lost) == Owner(None)

    def test_scrolling_by_pages_tells_each_point_once_with_its_facts(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [point(f"text {n}", str(n)) for n in range(25)], NOW, TIMEOUT_S)
        index.upsert(collection, [point("second", "3", 1)], NOW + 7, TIMEOUT_S)
        points, foreign, pages = scrolled(index, collection, 10)
        assert (len(points), foreign, pages) == (26, 0, 3)
        assert {(p.item_id, p.chunk) for p in points} == {("3", 1), *((str(n), 0) for n in range(25))}
        (second,) = [p for p in points if p.chunk == 1]
        assert (second.token, second.fingerprint, second.payload) == (NOW + 7, "print of second", None)

    def test_all_points_of_items_are_found_however_many_there_are(self, index: Index, collection: Collection) -> None:
        points = [replace(point("x", "a"), chunk=chunk) for chunk in range(1_500)]
        for some in slices([*points, point("y", "b"), point("z", "c")], 250):
            index.upsert(collection, some, NOW, TIMEOUT_S)
        found = index.points_of(collection, ["a", "b", "d"], TIMEOUT_S)
        assert {(each.item_id, each.chunk) for each in found} == {("a", n) for n in range(1_500)} | {("b", 0)}
        assert len(found) == 1_501
        assert {(each.token, each.span, each.payload) for each in found} == {(NOW, points[0].span, None)}

    def test_stored_points_are_told_with_and_without_their_payload(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [point("x", "a")], NOW, TIMEOUT_S)
        found = StoredPoint("a", 0, NOW, "print of x", {"text": "x"}, point("x", "a").span)
        assert index.stored(collection, [("a", 0), ("c", 0)], TIMEOUT_S) == {("a", 0): found}
        without = index.stored(collection, [("a", 0)], TIMEOUT_S, payload=False)
        assert without["a", 0].token == NOW

    def test_a_collection_keeps_its_id_until_it_is_lost(self, index: Index, collection: Collection) -> None:
        first = index.prepare(collection, SIZE, OWNER)
        assert first
        assert index.prepare(collection, SIZE, OWNER) == first
        index.drop(collection)
        second = index.prepare(collection, SIZE, OWNER)
        assert second
        assert second != first

    def test_a_collection_belongs_to_the_database_that_made_it(self, index: Index, collection: Collection) -> None:
        assert index.owner(collection) == OWNER
        with pytest.raises(SourceError, match=r"belongs to another database \(1/2; this is 1/3\).*`reindexer adopt`"):
            index.prepare(collection, SIZE, Owner("1/3", "e"))
        assert index.owner(collection) == OWNER
        index.prepare(collection, SIZE, Owner(None, "e"))  # a role that may not ask the server is let in
        assert index.owner(collection) == OWNER

    def test_a_collection_belongs_to_the_model_that_made_it(self, index: Index, collection: Collection) -> None:
        with pytest.raises(OtherEmbedder, match="are made by e, this process makes other model"):
            index.prepare(collection, SIZE, Owner("1/2", "other model"))
        assert index.owner(collection) == OWNER

    def test_an_adopted_collection_belongs_to_another_database(self, index: Index, collection: Collection) -> None:
        index.adopt(collection, Owner("1/3"))
        assert index.owner(collection) == Owner("1/3", "e")
        index.prepare(collection, SIZE, Owner("1/3", "e"))
        with pytest.raises(SourceError, match="belongs to another database"):
            index.prepare(collection, SIZE, OWNER)

    def test_two_collections_do_not_meet(self, index: Index, collection: Collection) -> None:
        other = Collection(f"{collection.source}_b", f"{collection.alias}_b__g1", f"{collection.alias}_b")
        index.prepare(other, SIZE, OWNER)
        try:
            index.upsert(collection, [point("one")], NOW, TIMEOUT_S)
            index.upsert(other, [point("other")], NOW, TIMEOUT_S)
            index.delete_items(other, ["1"], NOW + 1, TIMEOUT_S)
            assert text_of(index, collection) == "one"
            assert index.search(other, vector_of("one", SIZE), SearchTerms(3)) == []
        finally:
            index.drop(other)
