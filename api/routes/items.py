"""Items: everything that is known of one item, and how it is forgotten."""

from __future__ import annotations

from fastapi import HTTPException

from reindexer.index.forget import Forgotten, RowIsThere, forget
from reindexer.monitoring.status import ItemState, why
from reindexer.postgres.connect import connect, server_errors

from ..actor import ActorPart
from ..auth import keyed_router
from ..dependencies import EmbedderOfPart, IndexPart, PostgresPart, SettingsDep, source_or_404
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


@router.post(
    "/{source}/{item_id:key}/forget",
    summary="Remove an item from everything, whose row is gone",
    responses=documented(
        {
            **KEYED,
            404: "There is no such source.",
            409: "The item has a row, which would be indexed again.",
            502: "Qdrant refuses the request.",
            503: "Postgres or Qdrant does not answer, or the source can't be read: the item is not forgotten. Or no "
            "admin key is set.",
        }
    ),
)
def forget_item(
    source: SourceName, item_id: ItemId, settings: SettingsDep, postgres: PostgresPart, index: IndexPart,
    actor: ActorPart,
) -> Forgotten:  # fmt: skip
    """Its points leave every generation, and no record names it. Waits for a worker that has claimed it, at most for a
    lease. Safe to repeat."""
    # A connection of its own: the wait would keep one of the pool's from other requests.
    with server_errors(postgres.url), connect(postgres.url, application_name="reindexer api") as connection:
        source_or_404(connection, source)
        try:
            return forget(
                connection, index, source, item_id, who=actor, policy=settings.retry_policy, lease_s=settings.lease_s
            )
        except RowIsThere as exc:
            raise HTTPException(409, str(exc)) from exc
