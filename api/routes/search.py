"""Search: the items nearest to a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from reindexer.core.errors import UsageError
from reindexer.core.filters import Filter, parse_filter
from reindexer.core.payload import PayloadColumn
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.index.search import Searchable, collection_of, search_source
from reindexer.postgres.payload_kinds import payload_columns

from ..auth import keyed_router
from ..dependencies import EmbedderOfPart, IndexPart, PostgresPart, SettingsDep, source_or_404
from ..fields import JsonObject, Query, SourceName
from ..problems import documented

router = keyed_router(tags=["search"], unless=lambda settings: settings.search_open)


class SearchRequest(BaseModel):
    """What to look for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"source": "context_items", "query": "how do I cancel", "limit": 5}]},
    )

    source: SourceName = CONTEXT_ITEMS.name
    query: Query
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    filter: Annotated[
        JsonObject,
        Field(
            description="On payload columns, all of which must hold: a value, a list of values, null, or an object of "
            "gt, gte, lt, lte (numbers and times) and not.",
            examples=[{"lang": ["nl", "de"], "price": {"gte": 10, "lt": 50}, "color": {"not": "red"}}],
        ),
    ] = {}


class SearchHit(BaseModel):
    """One item."""

    model_config = ConfigDict(from_attributes=True)

    item_id: str
    score: Annotated[float, Field(description="Cosine similarity: 1 is the same direction.")]
    chunk: Annotated[int, Field(description="Which part of the item's text it is.")]
    span: Annotated[
        tuple[int, int] | None,
        Field(description="Where in the item's text that part lies: characters from, and up to (not included)."),
    ] = None
    payload: Annotated[dict[str, Any], Field(description="The source's payload columns.")]


class SearchAnswer(BaseModel):
    """Nearest items, best first."""

    hits: list[SearchHit]


@router.post(
    "/search",
    summary="Find the nearest items",
    responses=documented(
        {
            401: "The admin key is wrong or missing (REINDEXER_SEARCH_OPEN=1 lets everybody search).",
            404: "There is no such source.",
            502: "Qdrant refuses the request.",
            503: "The embedding provider, Qdrant or Postgres does not answer in time; the provider refuses whatever it "
            "is asked; the source's points are made by another embedder than this process has; or no admin key is set.",
        }
    ),
)
def search(
    body: SearchRequest, settings: SettingsDep, postgres: PostgresPart, embedder_of: EmbedderOfPart, index: IndexPart
) -> SearchAnswer:
    """Embeds the query and asks Qdrant."""

    def resolve() -> Searchable:
        with postgres.connection() as connection:
            source = source_or_404(connection, body.source)
            columns = payload_columns(connection, source) if body.filter else ()
            return Searchable(source, collection_of(connection, source), columns, None)

    def filter_of(columns: Sequence[PayloadColumn]) -> Filter:
        try:
            return parse_filter(body.filter, columns)
        except UsageError as exc:
            raise HTTPException(422, str(exc)) from exc

    found = search_source(
        resolve, embedder_of, index, body.query, body.limit, filter_of, timeout_s=settings.embedding_timeout_s
    )
    return SearchAnswer(hits=[SearchHit.model_validate(hit) for hit in found.hits])
