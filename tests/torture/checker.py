"""The checker: compares every row with every point, exactly.

It shares no code with what it checks: it reads Postgres and, by the official client, Qdrant; and has rules of its own
for the id of a point, for the text of a row, and for what a payload holds (docs/architecture.md, docs/api.md).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from qdrant_client import QdrantClient, models

from reindexer.ports import Vectors
from tests.support.provider import vector_of

SOURCE = "context_items"
NAMESPACE = uuid.UUID("6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e")
TOLERANCE = 1e-4
"""Qdrant stores float32 and normalises."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    item_id: str
    title: str | None
    content: str
    metadata: Any


@dataclass(frozen=True, slots=True)
class Found:
    """One point as it lies in Qdrant."""

    id: str
    vector: Vectors
    payload: Mapping[str, Any]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the program says of it."""
        facts: Mapping[str, Any] = self.payload.get("_reindexer") or {}
        return facts


@dataclass(slots=True)
class Differences:
    """Item ids: of rows without a point, of points that do not equal their row, of points without a row."""

    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.stale or self.extra)


def text_of(title: str | None, content: str) -> str:
    """The text that is embedded: title and content, stripped, a line each; blank ones are left out."""
    return "\n".join(part for part in ((title or "").strip(), content.strip()) if part)


def read_rows(database_url: str) -> list[Row]:
    """All rows."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT id::text, title, content, metadata FROM public.context_items").fetchall()
    return [Row(*row) for row in rows]


def read_points(client: QdrantClient) -> list[Found]:
    """All points of every collection of the source, whichever its alias names."""
    names = [each.name for each in client.get_collections().collections if each.name.startswith(f"{SOURCE}__g")]
    return [point for name in names for point in _points(client, name)]


def compare(rows: Iterable[Row], points: Iterable[Found]) -> Differences:
    """What differs."""
    wanted = {_point_id(row.item_id): row for row in rows if text_of(row.title, row.content)}
    differences, seen = Differences(), set[str]()
    for point in points:
        row = wanted.get(point.id)
        if row is None or point.id in seen:
            differences.extra.append(str(point.facts.get("item_id") or point.id))
        elif not _equal(row, point):
            differences.stale.append(row.item_id)
        seen.add(point.id)
    differences.lost = [row.item_id for point_id, row in wanted.items() if point_id not in seen]
    return differences


def _points(client: QdrantClient, name: str) -> Iterable[Found]:
    offset: models.ExtendedPointId | None = None
    while True:
        records, offset = client.scroll(name, limit=1000, offset=offset, with_payload=True, with_vectors=True)
        for record in records:
            yield Found(str(record.id), np.asarray(record.vector, dtype=np.float32), record.payload or {})
        if offset is None:
            return


def _point_id(item_id: str) -> str:
    return str(uuid.uuid5(NAMESPACE, json.dumps([SOURCE, item_id, 0])))


def _equal(row: Row, point: Found) -> bool:
    columns = {name: value for name, value in point.payload.items() if name != "_reindexer"}
    return (
        columns == {"title": row.title, "metadata": row.metadata}
        and [point.facts.get(name) for name in ("source", "item_id", "chunk")] == [SOURCE, row.item_id, 0]
        and bool(np.allclose(point.vector, vector_of(text_of(row.title, row.content)), atol=TOLERANCE))
    )
