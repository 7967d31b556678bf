"""The autopsy: what is known of the items that differ, for whoever has to find out why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from psycopg.rows import dict_row

from tests.torture.checker import SOURCES, Differences, Found, read_collections
from tests.torture.environment import Stage
from tests.torture.journal import Entry
from tests.torture.models import MODELS, vector

MAX_ITEMS = 5


def autopsy(stage: Stage, differences: Differences, entries: Sequence[Entry]) -> Iterator[str]:
    """A few lines for each of a few items of each kind."""
    if not differences:
        return
    client = stage.client()
    points = {
        (name, str(point.facts.get("item_id"))): point
        for name, found in read_collections(client).items()
        for point in found
    }
    client.close()
    for kind in ("lost", "stale", "extra"):
        for told in getattr(differences, kind)[:MAX_ITEMS]:
            yield f"{kind}: {told}"
            collection, _, item_id = told.partition(": ")
            item_id = item_id.split(" ", 1)[-1] if item_id.startswith(SOURCES) else item_id
            yield from _facts(stage, item_id)
            if point := points.get((collection, item_id)):
                yield f"  point: {point.payload}, of the text {_text(point, item_id, entries)!r}"
            yield f"  texts: {[text[-30:] for entry in entries for id_, text in entry.texts if id_ == item_id][-6:]}"


def _facts(stage: Stage, item_id: str) -> Iterator[str]:
    with stage.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM context_items WHERE id::text = %s", [item_id]).fetchone()
        yield f"  row: {row}"
        for table in ("due", "ledger"):
            query = f"SELECT * FROM reindexer.{table} WHERE item_id = %s"
            yield f"  {table}: {cursor.execute(query.encode(), [item_id]).fetchall()}"


def _text(point: Found, item_id: str, entries: Sequence[Entry]) -> str | None:
    for entry in reversed(entries):
        for _, text in entry.texts:
            if any(np.allclose(vector(model, text), point.vector, atol=1e-4) for model in MODELS):
                return text[-60:]
    return None
