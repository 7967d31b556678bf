"""Bulk: embed many items anew, each under its own task id."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from reindexer.core.errors import UsageError
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.wording import counted
from reindexer.queue import requests
from reindexer.sources.item_ids import UnfitKey, distinct_ids
from reindexer.sources.keys import key_types

from ..actor import ActorPart
from ..auth import keyed_router
from ..dependencies import PostgresPart, SenderPart, SettingsDep, source_or_404
from ..fields import SourceName
from ..problems import KEYED, documented

_ELSE = "; nothing was queued; to rebuild a whole source, or very many items of it, use POST /admin/backfills"

router = keyed_router(prefix="/admin/bulk", tags=["bulk"])


class BulkRequest(BaseModel):
    """Items to embed anew, whether their text changed or not."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"context_ids": ["7d9f2c1e-52c8-4b6c-9d4b-0c8d1c1f1a11", "0b6cf1de-1f0a-4f0e-8a53-5d7a1b1f2c22"]},
                {"source": "articles", "context_ids": [17, 18, 19]},
            ]
        },
    )

    context_ids: Annotated[
        list[Any],
        Field(
            description="Keys of the items: uuid, text or integer, as the source's key is; of a composite key an array "
            "of its parts. An id that comes twice counts once. At most REINDEXER_BULK_MAX_IDS (1,000).",
            json_schema_extra={"items": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "array"}]}},
        ),
    ]
    source: SourceName = CONTEXT_ITEMS.name


class BulkAnswer(BaseModel):
    """What was queued."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"queued_count": 1, "task_ids": ["c7e0d6a4-7a1e-4dd1-9a35-0a8b3f0f4d33"]}],
        }
    )

    queued_count: Annotated[int, Field(description="Number of distinct ids.")]
    task_ids: Annotated[list[str], Field(description="One Celery task id for each distinct id, in order.")]


@router.post(
    "/regenerate-embeddings",
    status_code=202,
    summary="Embed many items anew",
    responses=documented(
        {
            **KEYED,
            404: "There is no such source.",
            413: "The body is larger than 2 MiB.",
            422: "Too many ids, or one that can't be a key of the source; nothing was queued.",
        }
    ),
)
def regenerate_embeddings(
    body: BulkRequest, settings: SettingsDep, postgres: PostgresPart, sender: SenderPart, actor: ActorPart
) -> BulkAnswer:
    """The requests are committed in Postgres, then this answers; it does not wait for the broker.

    `GET /admin/tasks/{task_id}` tells what became of each item. One that has no row ends as FAILURE with the reason.
    """
    if len(body.context_ids) > settings.bulk_max_ids:
        raise HTTPException(422, f"more than {counted(settings.bulk_max_ids, 'id')}{_ELSE}")
    with postgres.connection() as connection:
        source = source_or_404(connection, body.source)
        try:
            item_ids = distinct_ids(body.context_ids, key_types(connection, source) if body.context_ids else ())
        except UnfitKey as exc:
            raise HTTPException(422, f"context_{exc}{_ELSE}") from None
        try:
            task_ids = requests.submit(connection, source.name, item_ids, who=actor)
        except UsageError as exc:
            raise HTTPException(404, str(exc)) from exc
    if task_ids:
        sender.kick()
    return BulkAnswer(queued_count=len(task_ids), task_ids=task_ids)
