"""Wait: until searches find what a transaction wrote, or items as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from reindexer.core.api_key import Access
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.wait_status import WaitStatus
from reindexer.postgres.connect import Postgres
from reindexer.sources.item_ids import UnfitKey, distinct_ids
from reindexer.sources.keys import key_types

from ..auth import AccessPart, keyed_router, require_key
from ..awaiting import MAX_S, Awaiting
from ..dependencies import PostgresPart
from ..fields import MarkToken, SourceName
from ..narrowing import searched_source
from ..problems import documented

MAX_IDS = 100

router = keyed_router(tags=["search"], unless=lambda settings: settings.search_open)


class WaitRequest(BaseModel):
    """What to wait for: a mark, or items."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"after": "48213-9b1deb4d3b7d4bad", "timeout_s": 5},
                {"source": "articles", "ids": [17, 18], "timeout_s": 5},
            ]
        },
    )

    after: Annotated[
        MarkToken | None, Field(description="What `SELECT reindexer.mark()` returned in the writer's transaction.")
    ] = None
    source: SourceName = CONTEXT_ITEMS.name
    ids: Annotated[
        list[Any] | None,
        Field(
            min_length=1,
            max_length=MAX_IDS,
            description="Keys of items, in place of a mark: until nothing is left to do of what has committed by then.",
            json_schema_extra={"items": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "array"}]}},
        ),
    ] = None
    timeout_s: Annotated[float, Field(ge=0, le=MAX_S, allow_inf_nan=False, description="For how long at most.")] = 10.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.after is None) == (self.ids is None):
            raise ValueError("must have either `after` or `ids`")
        return self


class LeftItem(BaseModel):
    """What failed, or is not done yet."""

    model_config = ConfigDict(from_attributes=True)

    source: str
    item_id: Annotated[str | None, Field(description="null: it is not known yet, or the key may not know it.")]
    reason: str


class WaitAnswer(BaseModel):
    """How the wait ended."""

    model_config = ConfigDict(from_attributes=True)

    status: Annotated[
        WaitStatus,
        Field(
            description="`indexed`: searches find it. `failed`: an item can't be indexed. `timeout`: not yet. "
            "`rolled_back`: the transaction was. `expired`: the mark is forgotten, an hour after it was done."
        ),
    ]
    failed: Annotated[list[LeftItem], Field(description="Items that failed, at most 10.")]
    waits_for: Annotated[list[LeftItem], Field(description="After a timeout: what it waits for, at most 10.")]


@router.post(
    "/wait",
    summary="Wait until a write is searchable",
    responses=documented(
        {
            401: "The key is wrong, has ended or is missing.",
            403: "The key's role does not allow it; it has a filter, and waits for a mark only; or its source is not "
            "attached.",
            404: "There is no such source, or it is another one than the key's.",
            422: "The token is not one of this database, or an id can't be a key of the source.",
            503: "Postgres does not answer in time, too many wait in this process, or it ends.",
        }
    ),
)
async def wait(request: Request, body: WaitRequest, postgres: PostgresPart, access: AccessPart) -> WaitAnswer:
    """Answers as soon as it is done, and at the latest after `timeout_s`. It costs next to nothing meanwhile."""
    items: Sequence[tuple[str, str]] = ()
    if body.ids is not None:
        items = await run_in_threadpool(_items, postgres, body.source, body.ids, access)
    return WaitAnswer.model_validate(await Awaiting.of(request).wait(body.after, items, body.timeout_s))


def _items(postgres: Postgres, name: str, ids: Sequence[Any], access: Access) -> list[tuple[str, str]]:
    require_key(access)  # guard open-wait-ids
    if access.filter:  # guard wait-filtered-ids
        raise HTTPException(403, "a key with a filter waits for a mark, not for ids")
    with postgres.connection() as connection:
        source = searched_source(connection, name, access)
        try:
            return [(source.name, each) for each in distinct_ids(ids, key_types(connection, source))]
        except UnfitKey as exc:
            raise HTTPException(422, str(exc)) from None
