"""The checker: compares every row with every point, exactly.

It shares no code with what it checks: it reads Postgres and, by the official client, Qdrant; and has rules of its own
for the id of a point, for the text of a row, and for what a payload holds (docs/architecture.md, docs/api.md).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import qdrant_edge
from qdrant_client import QdrantClient, models

from reindexer.ports import Vectors
from tests.torture.models import vector

SOURCES = ("context_items", "torture_articles", "torture_tickets")
CHUNKED = "torture_articles"
NAMESPACE = uuid.UUID("6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e")
BM25 = qdrant_edge.Bm25()
TOLERANCE = 1e-4
"""Qdrant stores float32 and normalises."""

KEPT = """
SELECT source, number, state, definition -> 'profile' ->> 'model', coalesce((definition -> 'keywords')::boolean, false) FROM reindexer.generation
WHERE state NOT IN ('broken', 'dropped')
"""
ROWS = """
SELECT 'context_items', id::text, ARRAY[title, content], jsonb_build_object('title', title, 'metadata', metadata)
FROM public.context_items
"""
OTHERS = """
SELECT 'torture_articles',
       CASE WHEN octet_length(slug) > 2600 THEN left(slug, 200) || '...sha256:' || encode(sha256(convert_to(slug, 'UTF8')), 'hex') ELSE slug END,
       ARRAY[body], jsonb_build_object('views', views), title
FROM public.articles
UNION ALL
SELECT 'torture_tickets', jsonb_build_array(queue, number::text)::text, ARRAY[subject, body, customers.name, labelled.names],
       jsonb_build_object(
           'state', state, 'queue', queue, 'labels', jsonb_build_object('id', coalesce(labelled.ids, '[]')),
           'customer', CASE WHEN customers.id IS NOT NULL THEN jsonb_build_object('name', customers.name) END), NULL
FROM public.tickets
LEFT JOIN public.customers ON customers.id = customer_id
LEFT JOIN (
    SELECT queue, number, string_agg(name, ', ' ORDER BY name, id) FILTER (WHERE btrim(name) <> '') AS names,
           jsonb_agg(id ORDER BY name, id) AS ids
    FROM public.ticket_labels JOIN public.labels ON id = label_id AND NOT hidden GROUP BY queue, number
) AS labelled USING (queue, number)
WHERE state <> 'closed'
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One row that has to be in the index, if there is text in it."""

    source: str
    item_id: str
    texts: Sequence[str | None]
    payload: Mapping[str, Any]
    title: str | None = None
    """Of an article: it is the header of each chunk."""

    @property
    def text(self) -> str:
        """What is embedded."""
        return text_of(*self.texts)

    @property
    def header(self) -> str:
        """What is embedded in front of each chunk: a line of its own."""
        title = (self.title or "").strip()
        return f"{title}\n" if title else ""

    @property
    def name(self) -> str:
        """For people."""
        return self.item_id if self.source == SOURCES[0] else f"{self.source} {self.item_id}"


@dataclass(frozen=True, slots=True)
class Found:
    """One point as it lies in Qdrant."""

    id: str
    vector: Vectors
    payload: Mapping[str, Any]
    keywords: Mapping[int, float] | None = None
    """The weight of each word. None: it has no keywords."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the program says of it."""
        facts: Mapping[str, Any] = self.payload.get("_reindexer") or {}
        return facts

    @property
    def columns(self) -> Mapping[str, Any]:
        """What the source says."""
        return {name: value for name, value in self.payload.items() if name != "_reindexer"}


@dataclass(slots=True)
class Differences:
    """Item ids: of rows without a point, of points that do not equal their row, of points without a row."""

    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.stale or self.extra)


def text_of(*texts: str | None) -> str:
    """The text that is embedded: the columns, stripped, a line each; blank ones are left out."""
    return "\n".join(part for part in ((text or "").strip() for text in texts) if part)


@dataclass(frozen=True, slots=True)
class Kept:
    """A generation that gets every change."""

    source: str
    number: int
    state: str
    model: str | None
    """Its model, where its profile names one."""
    has_keywords: bool = False

    @property
    def collection(self) -> str:
        """Where its points are."""
        return f"{self.source}__g{self.number}"


def read_kept(connection: psycopg.Connection[Any]) -> list[Kept]:
    """All kept generations of all sources."""
    return [Kept(*row) for row in connection.execute(KEPT)]


def read_rows(connection: psycopg.Connection[Any]) -> list[Row]:
    """All rows."""
    return [Row(*row) for query in (ROWS, OTHERS) for row in connection.execute(query.encode())]


def read_collections(client: QdrantClient) -> dict[str, list[Found]]:
    """All points of every collection of the sources, by the collection's own name."""
    starts = tuple(f"{source}__g" for source in SOURCES)
    names = [each.name for each in client.get_collections().collections if each.name.startswith(starts)]
    return {name: list(_points(client, name)) for name in names}


def compare_all(rows: Sequence[Row], kept: Iterable[Kept], collections: Mapping[str, list[Found]]) -> Differences:
    """What differs, in any generation that is kept, and collections that no kept generation has."""
    differences, unknown = Differences(), dict(collections)
    for each in kept:
        mine = [row for row in rows if row.source == each.source]
        found = compare(mine, unknown.pop(each.collection, []), each.model, has_keywords=each.has_keywords)
        for kind in ("lost", "stale", "extra"):
            getattr(differences, kind).extend(f"{each.collection}: {name}" for name in getattr(found, kind))
    differences.extra += [f"{name}: the collection" for name in unknown]
    return differences


def compare(
    rows: Iterable[Row], points: Iterable[Found], model: str | None = None, *, has_keywords: bool = False
) -> Differences:
    """What differs. Of a long text: chunks from 0 on that lie one after the other, and leave no word out."""
    differences, by_id = Differences(), dict[str, Found]()
    for point in points:
        if point.id in by_id:
            differences.extra.append(str(point.facts.get("item_id")))
        by_id[point.id] = point
    for row in rows:
        if not row.text:
            continue
        mine = _taken(row, by_id)
        if not mine:
            differences.lost.append(row.name)
        elif not _equal(row, mine, model) or (has_keywords and not all(_has_its_keywords(row, each) for each in mine)):
            differences.stale.append(row.name)
    differences.extra += [str(point.facts.get("item_id") or point.id) for point in by_id.values()]
    return differences


def _taken(row: Row, by_id: dict[str, Found]) -> list[Found]:
    """The row's points, taken out. Of a text that is one vector there is one."""
    found: list[Found] = []
    while (point := by_id.pop(_point_id(row, len(found)), None)) is not None:
        found.append(point)
        if row.source != CHUNKED:
            break
    return found


def _points(client: QdrantClient, name: str) -> Iterable[Found]:
    offset: models.ExtendedPointId | None = None
    while True:
        records, offset = client.scroll(name, limit=1000, offset=offset, with_payload=True, with_vectors=True)
        for record in records:
            yield _found(record)
        if offset is None:
            return


def _found(record: models.Record) -> Found:
    vectors = record.vector if isinstance(record.vector, dict) else {"": record.vector}
    sparse = vectors.get("bm25")
    words = dict(zip(sparse.indices, sparse.values, strict=True)) if isinstance(sparse, models.SparseVector) else None
    return Found(str(record.id), np.asarray(vectors[""], dtype=np.float32), record.payload or {}, words)


def _has_its_keywords(row: Row, point: Found) -> bool:
    """Qdrant's own BM25 says which they are. It does not divide Chinese: the one such word that is written does not
    stand for itself alone."""
    start, end = point.facts.get("span") or (0, 0)
    wanted = BM25.embed_document((row.header + row.text[start:end]).replace("漢字", " 漢 字 漢字 "))
    found = point.keywords
    return (
        found is not None
        and found.keys() == set(wanted.indices)
        and all(
            abs(found[word] - weight) < TOLERANCE for word, weight in zip(wanted.indices, wanted.values, strict=True)
        )
    )


def _point_id(row: Row, chunk: int) -> str:
    return str(uuid.uuid5(NAMESPACE, json.dumps([row.source, row.item_id, chunk], ensure_ascii=False)))


def _equal(row: Row, points: Sequence[Found], model: str | None) -> bool:
    text, reached, fits = row.text, 0, True
    for number, point in enumerate(points):
        start, end = point.facts.get("span") or (0, 0)
        stored = {"passage": text[start:end]} if row.source == CHUNKED else {}
        fits &= point.columns == {**row.payload, **stored}
        fits &= [point.facts.get(name) for name in ("source", "item_id", "chunk")] == [row.source, row.item_id, number]
        fits &= bool(np.allclose(point.vector, vector(model, row.header + text[start:end]), atol=TOLERANCE))
        fits &= reached <= start < end and not text[reached:start].strip()
        reached = end
    return fits and not text[reached:].strip()
