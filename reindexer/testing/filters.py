"""What an `Index` with filters guarantees, beside what every `Index` does. Inherit from the class, and give it `index`:

class TestAcmeIndex(FilteringIndexContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> Index:
        return registry.index("acme", IndexConfig(str(tmp_path / "vectors.db")))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reindexer.core.filters import parse_filter
from reindexer.core.payload import PayloadColumn
from reindexer.core.search_terms import GROUPS, Group, SearchTerms
from reindexer.core.text.chunks import Span
from reindexer.ports import Collection, Index, Point
from reindexer.testing.indexes import NOW, OWNER, SIZE, TIMEOUT_S, IndexContract
from reindexer.testing.provider import vector_of

COLUMNS = (
    PayloadColumn("count", "integer"), PayloadColumn("price", "float"), PayloadColumn("ok", "bool"),
    PayloadColumn("owner", "uuid"), PayloadColumn("made", "datetime"), PayloadColumn("tags", "keyword"),
    PayloadColumn("tenant", "keyword", tenant=True), PayloadColumn("größe", "keyword"),
    PayloadColumn("a.b [c]", "keyword"), PayloadColumn("facts", "json"), PayloadColumn("age", "other"),
    PayloadColumn('quo"te', "keyword"), PayloadColumn("back\\slash", "keyword"),
    PayloadColumn("author.country", "keyword", path=("author", "country")),
    PayloadColumn("groups.id", "integer", path=("groups", "id")),
    PayloadColumn("groups.names", "keyword", path=("groups", "names", None)),
    PayloadColumn("notes[].by", "keyword", path=("notes", None, "by")),
    PayloadColumn("notes[].at", "datetime", path=("notes", None, "at")),
)  # fmt: skip
ROWS: Mapping[str, Mapping[str, Any]] = {
    "1": {
        "count": 9007199254740993, "price": 450, "ok": True, "owner": "6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e",
        "made": "2026-01-31T10:00:00.5+01:00", "tags": ["x", "y"], "tenant": "t1", "größe": "XL", "a.b [c]": "here",
        "facts": {"color": {"name": "red"}, "size": 42, "at": "2026-01-31", "big": 2**53 + 1}, "age": "1 day",
        "author": {"country": "KR"}, "groups": {"id": [1, 2], "names": [["p", "q"], ["r"]]},
        "notes": [{"by": "ann", "at": "2026-01-01"}, {"by": "bo", "at": None}],
    },
    "2": {
        "count": 2, "price": 199.9, "ok": False, "owner": "aaaaaaaa-3f0b-5c55-9a52-7d1c0b1f6f0e", "made": "2026-03-01",
        "tags": ["z"], "tenant": "t2", "größe": "S", "a.b [c]": "there", "a": {"b [c]": "here"},
        "facts": {"color": {"name": "blue"}, "size": 43.5, "odd key": 1}, "age": "2 days",
        "author": {"country": "JP"}, "groups": {"id": [2, 3], "names": [["s"]]},
        "notes": [{"by": "ann", "at": "2026-02-01"}],
    },
    "3": {
        **{column.path[0]: None for column in COLUMNS if column.path[0]}, "tags": [], "made": "2026-02-01T00:00:00",
        "groups": {"id": [], "names": []}, "notes": [],
    },
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
    ({"facts.big": 2**53 + 1}, "1"), ({"facts.big": 2**53}, ""), ({"facts.big": 2.0**53}, ""),
    ({"facts.nothing": None}, "123"), ({"age": "1 day"}, "1"), ({"author.country": "KR"}, "1"),
    ({"author.country": {"not": "KR"}}, "23"), ({"author.country": None}, "3"), ({"groups.id": 2}, "12"),
    ({"groups.id": {"gt": 2}}, "2"), ({"groups.id": [1, 7]}, "1"), ({"groups.id": None}, "3"),
    ({"groups.names": "q"}, "1"), ({"groups.names": ["r", "s"]}, "12"), ({"notes[].by": "bo"}, "1"),
    ({"notes[].by": "ann"}, "12"), ({"notes[].at": {"gte": "2026-02-01"}}, "2"), ({"notes[].by": None}, "3"),
]  # fmt: skip
"""Filters, and the items of `ROWS` that each finds."""

TENANT = PayloadColumn("tenant", "keyword", tenant=True)


def row(item_id: str, payload: Mapping[str, Any], chunk: int = 0) -> Point:
    """A point with that payload. Its vector is that of its item's and chunk's name."""
    return Point(item_id, chunk, vector_of(f"{item_id}.{chunk}", SIZE), payload, "print", Span(0, 1))


def found(
    index: Index, collection: Collection, raw: Mapping[str, Any], near: str = "1.0", limit: int = 10
) -> list[str]:
    """The items that a filter lets through, the nearest to `near` first."""
    hits = index.search(collection, vector_of(near, SIZE), SearchTerms(limit, where=parse_filter(raw, COLUMNS)))
    return [hit.item_id for hit in hits]


class FilteringIndexContract(IndexContract):
    """Tests of one index that has filters: those of `IndexContract`, and those of filters and tenants."""

    @pytest.fixture
    def filled(self, index: Index, collection: Collection) -> Collection:
        """A collection that was prepared for each column, with the rows, of two chunks each."""
        index.prepare(collection, SIZE, OWNER, COLUMNS)
        points = [row(item_id, payload, chunk) for item_id, payload in ROWS.items() for chunk in (0, 1)]
        index.upsert(collection, points, NOW, TIMEOUT_S)
        return collection

    @pytest.mark.parametrize(("raw", "ids"), ASKED, ids=[str(raw) for raw, _ in ASKED])
    def test_a_search_finds_what_the_filter_lets_through(
        self, index: Index, filled: Collection, raw: dict[str, Any], ids: str
    ) -> None:
        assert sorted(found(index, filled, raw)) == list(ids)

    def test_a_filter_comes_before_the_limit(self, index: Index, filled: Collection) -> None:
        assert found(index, filled, {}, near="1.0", limit=1) == ["1"]
        assert found(index, filled, {"count": 2}, near="1.0", limit=1) == ["2"]

    @pytest.mark.parametrize("group", GROUPS)
    def test_a_filter_comes_before_the_offset(self, index: Index, filled: Collection, group: Group) -> None:
        where = parse_filter({"count": {"not": 2}}, COLUMNS)
        pages = [
            index.search(filled, vector_of("2.0", SIZE), SearchTerms(1, offset, where, group=group))
            for offset in range(5)
        ]
        per_item = 1 if group == "item" else 2
        assert sorted(hit.item_id for page in pages for hit in page) == ["1"] * per_item + ["3"] * per_item

    def test_the_vectors_of_an_item_are_those_of_the_points_that_the_filter_lets_through(
        self, index: Index, filled: Collection
    ) -> None:
        assert len(index.vectors_of(filled, "1", parse_filter({"tenant": "t1"}, COLUMNS), 10)) == 2
        assert index.vectors_of(filled, "1", parse_filter({"tenant": "t2"}, COLUMNS), 10) == []

    def test_a_filter_goes_by_the_payload_that_was_written_last(self, index: Index, filled: Collection) -> None:
        updated = [row("2", {**ROWS["2"], "count": 7}, chunk) for chunk in (0, 1)]
        index.update_payload(filled, updated, NOW + 1, TIMEOUT_S)
        assert found(index, filled, {"count": 7}) == ["2"]
        assert found(index, filled, {"count": 2}) == []
        index.upsert(filled, [row("2", {**ROWS["2"], "count": 8}, chunk) for chunk in (0, 1)], NOW + 2, TIMEOUT_S)
        assert found(index, filled, {"count": [7, 8]}) == ["2"]
        assert found(index, filled, {"count": 7}) == []

    def test_a_column_can_be_declared_when_there_are_points(self, index: Index, collection: Collection) -> None:
        index.upsert(collection, [row(item_id, payload) for item_id, payload in ROWS.items()], NOW, TIMEOUT_S)
        index.prepare(collection, SIZE, OWNER, COLUMNS)
        assert found(index, collection, {"count": 2}) == ["2"]

    @pytest.mark.parametrize("columns", [[TENANT], []], ids=["declared", "not declared"])
    def test_a_tenants_search_finds_all_of_its_items_and_none_of_anothers(
        self, index: Index, collection: Collection, columns: list[PayloadColumn]
    ) -> None:
        index.prepare(collection, SIZE, OWNER, columns)
        points = [row(f"{tenant}{n}", {"tenant": tenant}) for tenant in ("a", "b") for n in range(20)]
        index.upsert(collection, points, NOW, TIMEOUT_S)
        nearest = found(index, collection, {"tenant": "b"}, near="a0.0", limit=40)
        assert sorted(nearest) == sorted(f"b{n}" for n in range(20))
        assert found(index, collection, {"tenant": "b"}, near="b7.0", limit=1) == ["b7"]
        assert found(index, collection, {"tenant": "c"}) == []
