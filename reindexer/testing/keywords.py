"""What an `Index` guarantees that takes keywords. Inherit from the class, and give it the fixture `index`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from reindexer.core.filters import parse_filter
from reindexer.core.keywords import Keywords
from reindexer.core.payload import PayloadColumn
from reindexer.core.search_terms import GROUPS, Group, SearchTerms
from reindexer.ports import Collection, Index, Point
from reindexer.testing.indexes import NOW, OWNER, SIZE, TIMEOUT_S, own_collection, point
from reindexer.testing.provider import vector_of

OLD, NEW = Keywords((3, 8), (1.5, 0.75)), Keywords((5,), (1.25,))


def with_keywords(made: Point, keywords: Keywords | None) -> Point:
    """The point, with these keywords."""
    return replace(made, keywords=keywords)


def beside_kept_vector(text: str, keywords: Keywords | None) -> Point:
    """A point that keeps its vector."""
    return with_keywords(replace(point(text), vector=None, payload={"text": "changed"}), keywords)


class KeywordIndexContract:
    """Tests of one index. They make collections of their own, and drop them."""

    @pytest.fixture
    def index(self) -> Index:
        """The index to test."""
        raise NotImplementedError("define the fixture `index`")

    @pytest.fixture
    def plain(self, index: Index) -> Iterator[Collection]:
        """A collection without keywords."""
        with own_collection(index) as collection:
            yield collection

    @pytest.fixture
    def collection(self, index: Index) -> Iterator[Collection]:
        """A collection with keywords, without points."""
        with own_collection(index, keywords=True) as collection:
            yield collection

    @staticmethod
    def stored(index: Index, collection: Collection) -> tuple[Keywords | None, str]:
        """The keywords and the text of the first point."""
        found = index.stored(collection, [("1", 0)], TIMEOUT_S)["1", 0]
        return found.keywords, (found.payload or {})["text"]

    def test_keywords_are_written_with_their_vector_and_the_higher_token_stays(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [with_keywords(point("new"), NEW)], NOW + 1, TIMEOUT_S)
        index.upsert(collection, [with_keywords(point("old"), OLD)], NOW, TIMEOUT_S)
        assert self.stored(index, collection) == (NEW, "new")
        vector = index.vectors(collection, [("1", 0)], TIMEOUT_S)["1", 0].vector
        assert np.allclose(vector, vector_of("new", SIZE), atol=1e-4)

    def test_a_text_without_a_word_has_keywords_that_are_empty(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [with_keywords(point("!"), Keywords((), ()))], NOW, TIMEOUT_S)
        assert self.stored(index, collection)[0] == Keywords((), ())

    def test_keywords_come_to_a_collection_that_holds_points(self, index: Index, plain: Collection) -> None:
        index.upsert(plain, [point("a")], NOW, TIMEOUT_S)
        collection = replace(plain, keywords=True)
        assert self.stored(index, collection) == (None, "a")  # nobody has prepared it
        index.prepare(collection, SIZE, OWNER)
        index.prepare(collection, SIZE, OWNER)
        assert self.stored(index, collection) == (None, "a")
        index.update_payload(collection, [beside_kept_vector("a", NEW)], NOW + 1, TIMEOUT_S)
        assert self.stored(index, collection) == (NEW, "changed")
        vector = index.vectors(collection, [("1", 0)], TIMEOUT_S)["1", 0].vector
        assert np.allclose(vector, vector_of("a", SIZE), atol=1e-4)

    def test_late_keywords_are_refused(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [with_keywords(point("a"), NEW)], NOW + 1, TIMEOUT_S)
        index.update_payload(collection, [beside_kept_vector("a", OLD)], NOW, TIMEOUT_S)
        index.update_payload(collection, [beside_kept_vector("a", OLD)], NOW + 1, TIMEOUT_S)
        assert self.stored(index, collection) == (NEW, "a")

    def test_keywords_of_another_text_are_refused(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [with_keywords(point("a"), NEW)], NOW, TIMEOUT_S)
        index.update_payload(collection, [beside_kept_vector("b", OLD)], NOW + 1, TIMEOUT_S)
        assert self.stored(index, collection) == (NEW, "a")
        assert index.tokens(collection, [("1", 0)], TIMEOUT_S) == {("1", 0): NOW}

    def test_a_payload_alone_leaves_keywords_as_they_are(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [with_keywords(point("a"), NEW)], NOW, TIMEOUT_S)
        index.update_payload(collection, [beside_kept_vector("a", None)], NOW + 1, TIMEOUT_S)
        assert self.stored(index, collection) == (NEW, "changed")

    @pytest.mark.parametrize("group", ["item", "chunk"])
    def test_a_search_finds_by_words_by_meaning_or_by_both(
        self, index: Index, collection: Collection, group: Group
    ) -> None:
        points = [
            with_keywords(point("meant", "meant"), Keywords((1,), (1.0,))),
            with_keywords(point("said", "said"), Keywords((1, 9), (1.0, 1.0))),
            *(with_keywords(point(f"other {n}", f"other {n}"), Keywords((1,), (1.0,))) for n in range(20)),
        ]
        index.upsert(collection, points, NOW, TIMEOUT_S)
        vector, words, terms = vector_of("meant", SIZE), Keywords((9,), (1.0,)), SearchTerms(3, group=group)
        assert index.search(collection, vector, terms)[0].item_id == "meant"
        assert [hit.item_id for hit in index.search(collection, None, terms, keywords=[words])] == ["said"]
        both = [hit.item_id for hit in index.search(collection, vector, terms, keywords=[words])]
        assert set(both[:2]) == {"meant", "said"}
        second = index.search(collection, vector, replace(terms, offset=1), keywords=[words])[0]
        assert second.item_id == both[1]

    def test_each_way_keeps_to_the_filter_and_to_the_source(self, index: Index, collection: Collection) -> None:
        """Each ranking has the filter. Else what may not be found would take the places of what may."""
        mine = [with_keywords(replace(point(f"mine {n}", f"mine {n}"), payload={"tenant": "a"}), Keywords((1,), (0.1,)))
                for n in range(3)]  # fmt: skip
        theirs = [
            with_keywords(replace(point("meant", f"their {n}"), payload={"tenant": "b"}), Keywords((1,), (2.0,)))
            for n in range(200)
        ]
        index.upsert(collection, mine, NOW, TIMEOUT_S)
        index.upsert(collection, theirs, NOW, TIMEOUT_S)
        where = parse_filter({"tenant": "a"}, [PayloadColumn("tenant", "keyword")])
        vector, words = vector_of("meant", SIZE), Keywords((1,), (1.0,))
        for group in GROUPS:
            terms = SearchTerms(10, where=where, group=group)
            for given in ((vector, []), (None, [words]), (vector, [words])):
                found = index.search(collection, given[0], terms, keywords=given[1])
                assert {hit.item_id for hit in found} == {"mine 0", "mine 1", "mine 2"}
        other = replace(collection, source=f"{collection.source}_b")
        assert index.search(other, vector, SearchTerms(10), keywords=[words]) == []

    def test_keywords_of_a_point_that_is_gone_are_written_for_nobody(
        self, index: Index, collection: Collection
    ) -> None:
        index.upsert(collection, [with_keywords(point("a"), OLD)], NOW, TIMEOUT_S)
        gone = replace(beside_kept_vector("b", NEW), item_id="2")
        index.update_payload(collection, [gone, beside_kept_vector("a", NEW)], NOW + 1, TIMEOUT_S)
        assert self.stored(index, collection) == (NEW, "changed")
        assert index.tokens(collection, [("2", 0)], TIMEOUT_S) == {}
