"""Dead letters: which items failed and why, and their replay."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reindexer.postgres.connect import Connection
from reindexer.queue import dead_letters
from reindexer.queue.dead_letters import DeadLetter, Place, Which

from ..actor import ActorPart
from ..auth import keyed_router
from ..dependencies import PostgresPart, source_or_404
from ..fields import ItemId, SourceName, Text
from ..problems import KEYED, documented

MAX_PAGE = 1000
MAX_REPLAYED = 10_000

_PLACE = TypeAdapter(tuple[SourceName, ItemId])

router = keyed_router(prefix="/admin/dead-letters", tags=["dead letters"])

ErrorPart = Annotated[Text, Field(max_length=1000, description="A part of the reason; case does not count.")]


class DeadLetters(BaseModel):
    """In the order of source and item id."""

    dead_letters: list[DeadLetter]
    next_cursor: Annotated[str | None, Field(description="For the next page; null: there is none.")]


class ReplayRequest(BaseModel):
    """Which to try again; `{}`: all of them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"source": "context_items", "error": "429"}, {}]}
    )

    source: SourceName | None = None
    item_id: ItemId | None = None
    error: ErrorPart | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_REPLAYED)] = MAX_REPLAYED


class ReplayAnswer(BaseModel):
    """What is due again."""

    replayed: int
    left: Annotated[int, Field(description="Those that were asked for and not replayed: ask again.")]


@router.get(
    "",
    summary="Items that failed, and why",
    responses=documented({**KEYED, 404: "There is no such source.", 422: "The cursor is none of ours."}),
)
def dead(
    postgres: PostgresPart,
    source: Annotated[SourceName | None, Query()] = None,
    item_id: Annotated[ItemId | None, Query()] = None,
    error: Annotated[ErrorPart | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[str | None, Query(max_length=20_000, description="`next_cursor` of the page before.")] = None,
) -> DeadLetters:
    """Those that heal, too: `heals_at` says when they are tried again. Null: not by themselves."""
    after = _place(cursor)
    with postgres.connection() as connection:
        letters = dead_letters.page(connection, _which(connection, source, item_id, error), limit, after)
    more = len(letters) == limit
    cursor = json.dumps([letters[-1].source, letters[-1].item_id]) if more else None
    return DeadLetters(dead_letters=letters, next_cursor=cursor)


@router.post("/replay", summary="Try them again", responses=documented({**KEYED, 404: "There is no such source."}))
def replay(body: ReplayRequest, postgres: PostgresPart, actor: ActorPart) -> ReplayAnswer:
    """They are due again, in the lane `bulk`, with all their tries. At most 10,000 at a time."""
    with postgres.connection() as connection:
        which = _which(connection, body.source, body.item_id, body.error)
        replayed = dead_letters.replay(connection, which, who=actor, limit=body.limit)
        return ReplayAnswer(replayed=replayed, left=dead_letters.count(connection, which))


def _which(connection: Connection, source: str | None, item_id: str | None, error: str | None) -> Which:
    if source is not None:
        source_or_404(connection, source)
    return dead_letters.which(connection, source, item_id, error)


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    try:
        return _PLACE.validate_json(cursor)
    except ValidationError:
        raise HTTPException(422, "the cursor is none of ours: give `next_cursor` as it was") from None
