"""Context items: the built-in source, for an application that wants it. Triggers take care of the indexing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import HTTPException, Query, Response
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, model_validator

from reindexer.postgres.connect import Postgres
from reindexer.postgres.queries import load
from reindexer.sources.built_in import is_attached

from ..auth import keyed_router
from ..dependencies import PostgresPart
from ..fields import JsonObject, Text
from ..problems import KEYED, documented

router = keyed_router(prefix="/context-items", tags=["context items"])

_OF_ANOTHER_TABLE = (
    psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction, psycopg.errors.DatatypeMismatch,
)  # fmt: skip

_EXAMPLE: dict[str, Any] = {"title": "Cancelling", "content": "You can cancel at any time.", "metadata": {"lang": "en"}}
_NONE = "There is no such item, or no built-in table."
_NO_TABLE = "There is no built-in table."
_OTHER = "public.context_items is another table than the built-in one."
_KEYED = {404: _NO_TABLE, 409: _OTHER, **KEYED}


class ContextItem(BaseModel):
    """One row."""

    id: UUID
    title: str | None
    content: str
    metadata: Any
    created_at: datetime
    updated_at: datetime


class NewContextItem(BaseModel):
    """What a new item holds."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    title: Text | None = None
    content: Text
    metadata: JsonObject = Field(default_factory=dict)


class ContextItemChanges(BaseModel):
    """The fields to change; the others stay. `metadata` is replaced as a whole."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"content": "You can cancel until May."}]}
    )

    title: Text | None = None
    content: Text = ""
    metadata: JsonObject = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> ContextItemChanges:
        if not self.model_fields_set:
            raise ValueError("must change something: title, content or metadata")
        return self


class ContextItemPage(BaseModel):
    """A page, in the order of the ids."""

    items: list[ContextItem]
    next_cursor: Annotated[UUID | None, Field(description="Where the next page begins; null: this is the last one.")]


@router.get("", summary="List context items", response_model=ContextItemPage, responses=documented(_KEYED))
def list_items(
    postgres: PostgresPart,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[UUID, Query(description="`next_cursor` of the page before.")] = UUID(int=0),
) -> Response:
    """Page by page. Items that are written meanwhile may be missed; none comes twice."""
    rows = _rows(postgres, "page", {"cursor": cursor, "rows": limit + 1})
    following = f'"{rows[limit][0]}"' if len(rows) > limit else "null"
    return _json(f'{{"items":[{",".join(item for _, item in rows[:limit])}],"next_cursor":{following}}}')


@router.post(
    "",
    status_code=201,
    summary="Create a context item",
    response_model=ContextItem,
    responses=documented(_KEYED),
)
def create_item(body: NewContextItem, postgres: PostgresPart) -> Response:
    """It can be found by search a moment later."""
    ((item_id, item),) = _rows(postgres, "create", body.model_dump() | {"metadata": Jsonb(body.metadata)})
    return _json(item, 201, {"Location": f"/context-items/{item_id}"})


@router.get(
    "/{item_id}",
    summary="One context item",
    response_model=ContextItem,
    responses=documented({404: _NONE, 409: _OTHER, **KEYED}),
)
def one_item(item_id: UUID, postgres: PostgresPart) -> Response:
    """As it is in Postgres."""
    return _json(_only(_rows(postgres, "one", {"id": item_id})))


@router.patch(
    "/{item_id}",
    summary="Change a context item",
    response_model=ContextItem,
    responses=documented({404: _NONE, 409: _OTHER, **KEYED}),
)
def change_item(item_id: UUID, body: ContextItemChanges, postgres: PostgresPart) -> Response:
    """Only the given fields change, and `updated_at`."""
    changes = {f"set_{name}": name in body.model_fields_set for name in ContextItemChanges.model_fields}
    values = body.model_dump() | {"metadata": Jsonb(body.metadata)}
    return _json(_only(_rows(postgres, "change", {"id": item_id} | changes | values)))


@router.delete(
    "/{item_id}",
    status_code=204,
    summary="Delete a context item",
    response_class=Response,
    responses=documented({404: _NONE, 409: _OTHER, **KEYED}),
)
def delete_item(item_id: UUID, postgres: PostgresPart) -> None:
    """It leaves the index a moment later."""
    _only(_rows(postgres, "delete", {"id": item_id}))


def _rows(postgres: Postgres, query: str, params: dict[str, Any]) -> list[tuple[UUID, str]]:
    """Ids, and items as JSON made by Postgres: it can show whatever SQL clients wrote there."""
    with postgres.connection() as connection:
        if not is_attached(connection):
            raise HTTPException(
                404, "the built-in table is not attached here; `reindexer migrate --with-context-items` makes it"
            )
        try:
            return [(item_id, item) for item_id, item in connection.execute(load("context_items.sql")[query], params)]
        except _OF_ANOTHER_TABLE as exc:
            raise HTTPException(409, "public.context_items is not the built-in table that this route is for") from exc


def _only(rows: list[tuple[UUID, str]]) -> str:
    if not rows:
        raise HTTPException(404, "there is no context item with this id")
    return rows[0][1]


def _json(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="application/json")
