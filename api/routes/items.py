"""Items: everything that is known of one item."""

from __future__ import annotations

from fastapi import HTTPException

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.monitoring.status import ItemState
from reindexer.monitoring.status import item as item_state
from reindexer.postgres.connect import Connection
from reindexer.sources.embedder_record import recorded_embedding_spec
from reindexer.sources.keys import key_types

from ..auth import keyed_router
from ..dependencies import EmbedderOfPart, PostgresPart, source_or_404
from ..fields import ItemId, SourceName
from ..item_ids import MalformedId, canonical_id
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
        spec = recorded_embedding_spec(connection, found, embedder_of(found))
        state = item_state(connection, found, _as_recorded(connection, found, item_id), spec)
    if state is None:
        raise HTTPException(404, "neither a row nor any trace of this item is there")
    return state


def _as_recorded(connection: Connection, source: Source, item_id: str) -> str:
    """The id as the triggers write it. An id that can't be a key stays as is: it may still have a reindex request."""
    try:
        return canonical_id(item_id, key_types(connection, source))
    except (MalformedId, SourceError):
        return item_id
