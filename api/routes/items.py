"""Items: everything that is known of one item."""

from __future__ import annotations

from fastapi import HTTPException

from reindexer.monitoring.status import ItemState, why

from ..auth import keyed_router
from ..dependencies import EmbedderOfPart, PostgresPart, source_or_404
from ..fields import ItemId, SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin/items", tags=["status"])


@router.get(
    "/{source}/{item_id:key}",
    summary="Why an item is, or is not, as it should be",
    responses=documented(
        {
            **KEYED,
            404: "There is no such source, or neither a row nor a trace of the item.",
        }
    ),
)
def item(source: SourceName, item_id: ItemId, postgres: PostgresPart, embedder_of: EmbedderOfPart) -> ItemState:
    """What is wanted and what is indexed (fingerprints), attempts, the last error, and what the item waits for."""
    with postgres.connection() as connection:
        found = source_or_404(connection, source)
        state = why(connection, found, item_id, embedder_of)
    if state is None:
        raise HTTPException(404, "neither a row nor any trace of this item is there")
    return state
