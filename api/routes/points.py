"""Points: what Qdrant holds of one item, each chunk's text beside its place, and the row as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from reindexer.core.items import StoredPoint
from reindexer.index.hit_texts import with_texts
from reindexer.index.search import collection_of, max_input_tokens
from reindexer.ports import Hit
from reindexer.sources.rows import find_rows

from ..auth import keyed_router
from ..dependencies import PostgresPart, SearcherPart, source_or_404
from ..fields import ItemId, SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin/points", tags=["status"])

WITHIN_S = 10.0


class ShownPoint(BaseModel):
    """One point: a chunk of the item's text."""

    chunk: int
    span: Annotated[
        tuple[int, int] | None,
        Field(description="Where in the item's text the chunk lies: characters from, and up to (not included)."),
    ]
    text: Annotated[str | None, Field(description="The chunk. null: the row holds another text there by now.")]
    fingerprint: str
    token: Annotated[int, Field(description="Of the claim that wrote the point.")]


class ShownRow(BaseModel):
    """The row, as an item is read of it."""

    text: str
    payload: Mapping[str, Any]


class ItemPoints(BaseModel):
    """What searches can find of an item."""

    collection: Annotated[str, Field(description="Of the generation that searches use.")]
    points: Sequence[ShownPoint]
    row: Annotated[ShownRow | None, Field(description="null: there is no row, or it can't be read.")]


@router.get(
    "/{source}/{item_id:key}",
    summary="What Qdrant holds of an item",
    responses=documented(
        {**KEYED, 404: "There is no such source.", 502: "Qdrant refuses the request.",
         503: "Postgres or Qdrant does not answer, the source can't be read, or no admin key is set."}
    ),
)  # fmt: skip
def points(source: SourceName, item_id: ItemId, postgres: PostgresPart, by: SearcherPart) -> ItemPoints:
    """By chunk, and the row as it is now. Texts are read of the row: the index need hold none."""
    with postgres.connection() as connection:
        found = source_or_404(connection, source)
        collection = collection_of(connection, found)
        row = find_rows(connection, found, [item_id]).rows.get(item_id)
    stored = by.index.points_of(collection, [item_id], WITHIN_S)
    with postgres.connection() as connection:
        hits = with_texts(
            connection, by.index, found, collection, [_hit(each) for each in stored], max_input_tokens(by, found)
        )
    shown = [
        ShownPoint(chunk=hit.chunk, span=hit.span, text=hit.text, fingerprint=hit.fingerprint, token=each.token)
        for hit, each in zip(hits, stored, strict=True)
    ]
    return ItemPoints(
        collection=collection.name,
        points=sorted(shown, key=lambda each: each.chunk),
        row=None if row is None else ShownRow(text=row.text, payload=row.payload),
    )


def _hit(point: StoredPoint) -> Hit:
    span = None if point.span is None else (point.span.start, point.span.end)
    return Hit(point.item_id, 0.0, point.chunk, span, {}, point.fingerprint)
