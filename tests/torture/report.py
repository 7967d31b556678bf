"""The autopsy: what is known of the items that differ, for whoever has to find out why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from psycopg.rows import dict_row

from reindexer.testing.provider import vector_of
from tests.torture.checker import SOURCES, Differences, Found, read_points
from tests.torture.environment import Stage
from tests.torture.journal import Entry

MAX_ITEMS = 5


def autopsy(stage: Stage, differences: Differences, entries: Sequence[Entry]) -> Iterator[str]:
    """A few lines for each of a few items of each kind."""
    if not differences:
        return
    client = stage.client()
    points = {str(point.facts.get("item_id")): point for point in read_points(client)}
    client.close()
    for kind in ("lost", "stale", "extra"):
        for item_id in getattr(differences, kind)[:MAX_ITEMS]:
            yield f"{kind}: {item_id}"
            yield from _facts(stage, item_id)
            if point := points.get(item_id):
                yield f"  point: {point.payload}, of the text {_text(point, item_id, entries)!r}"
            yield f"  texts: {[text[-30:] for entry in entries for id_, text in entry.texts if id_ == item_id][-6:]}"


def _facts(stage: Stage, item_id: str) -> Iterator[str]:
    with stage.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        item_id = item_id.split(" ", 1)[-1] if item_id.startswith(SOURCES) else item_id
        row = cursor.execute("SELECT * FROM context_items WHERE id::text = %s", [item_id]).fetchone()
        yield f"  row: {row}"
        for table in ("due", "ledger"):
            query = f"SELECT * FROM reindexer.{table} WHERE item_id = %s"
            yield f"  {table}: {cursor.execute(query.encode(), [item_id]).fetchone()}"


def _text(point: Found, item_id: str, entries: Sequence[Entry]) -> str | None:
    for entry in reversed(entries):
        for _, text in entry.texts:
            if np.allclose(vector_of(text), point.vector, atol=1e-4):
                return text[-60:]
    return None
