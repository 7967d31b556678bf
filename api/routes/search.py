"""Search: what is nearest to a text, or to an item."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from reindexer.core.api_key import Access
from reindexer.core.errors import GenerationConflict
from reindexer.core.filters import parse_filter
from reindexer.core.search_terms import MAX_DEPTH, MAX_LIMIT, MAX_SCORE, MAX_SOURCES, Group, Mode, SearchTerms
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.wait_status import WaitStatus
from reindexer.generations.rows import kept
from reindexer.index.search import Searchable, Searcher, SearchResult, collection_of, search_sources
from reindexer.index.similar import similar
from reindexer.ports import Hit
from reindexer.postgres.connect import Postgres
from reindexer.postgres.payload_kinds import payload_columns

from ..auth import AccessPart, has_key, keyed_router, require_key
from ..awaiting import MAX_S, Awaiting
from ..dependencies import PostgresPart, SearcherPart
from ..fields import ItemId, JsonObject, MarkToken, Query, SourceName
from ..narrowing import forced_conditions, searched_source
from ..problems import documented

router = keyed_router(tags=["search"], unless=lambda settings: settings.search_open)


class Terms(BaseModel):
    """What every search may say of its hits."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 10
    offset: Annotated[
        int,
        Field(
            ge=0, le=MAX_DEPTH - 1, description=f"Leave out so many of the best; with `limit` at most {MAX_DEPTH:,}."
        ),
    ] = 0
    filter: Annotated[
        JsonObject,
        Field(
            description="On payload columns, all of which must hold: a value, a list of values, null, or an object of "
            "gt, gte, lt, lte (numbers and times) and not.",
            examples=[{"lang": ["nl", "de"], "price": {"gte": 10, "lt": 50}, "color": {"not": "red"}}],
        ),
    ] = {}
    min_score: Annotated[
        float | None,
        Field(
            ge=-MAX_SCORE,
            le=MAX_SCORE,
            allow_inf_nan=False,
            description="The least score of a hit. Of the distances euclid and manhattan, where a smaller score is "
            "nearer: the largest. Not with several sources, whose hits are fused by rank.",
        ),
    ] = None
    group: Annotated[
        Group, Field(description="`item`: each item once, by the nearest part of its text. `chunk`: each such part.")
    ] = "item"
    text: Annotated[
        bool, Field(description="Whether each hit gets its part of the text, from the row as it is now.")
    ] = False

    def terms(self) -> SearchTerms:
        """The terms, without the filter."""
        return SearchTerms(self.limit, self.offset, min_score=self.min_score, group=self.group)


class SearchRequest(Terms):
    """What to look for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"source": "context_items", "query": "how do I cancel", "limit": 5}]},
    )

    source: SourceName = CONTEXT_ITEMS.name
    sources: Annotated[
        list[SourceName] | None,
        Field(
            min_length=1,
            max_length=MAX_SOURCES,
            description="Several sources, in place of `source`. Their hits are fused by rank.",
        ),
    ] = None
    query: Query
    mode: Annotated[
        Mode | None,
        Field(
            description="`meaning`: the query is compared by its vector. `keywords`: by its words. `hybrid`: by both, "
            "fused by rank. null: `hybrid` where a source has keywords, else `meaning`."
        ),
    ] = None

    after: Annotated[
        MarkToken | None,
        Field(
            description="A token of `SELECT reindexer.mark()`: the search begins once what that transaction wrote is "
            "indexed, or after `after_timeout_s`. `after` of the answer says how the wait ended."
        ),
    ] = None
    after_timeout_s: Annotated[float, Field(ge=0, le=MAX_S, allow_inf_nan=False)] = 10.0

    generation: Annotated[
        int | None,
        Field(
            ge=1,
            le=2**31 - 1,
            description="Another generation of the source than the one that searches use. Needs a key of the role "
            "`admin`.",
        ),
    ] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.sources is not None and "source" in self.model_fields_set:
            raise ValueError("must not have both `source` and `sources`")
        if self.sources is not None and self.generation is not None:
            raise ValueError("must not have both `generation` and `sources`")
        return self

    @property
    def names(self) -> Sequence[str]:
        """The sources, each once."""
        return [self.source] if self.sources is None else list(dict.fromkeys(self.sources))


class SimilarRequest(Terms):
    """An item that is like what to look for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"source": "context_items", "item_id": "e0edea26-2911-4219-853e-4f82f5163fc2", "limit": 5}]
        },
    )

    source: SourceName = CONTEXT_ITEMS.name
    item_id: Annotated[ItemId, Field(description="The row's key, as `hits[].item_id` has it.")]


class SearchHit(BaseModel):
    """One item, or one part of an item's text."""

    source: str
    item_id: str
    score: Annotated[
        float,
        Field(
            description="Cosine similarity: 1 is the same direction. By the source's distance, if that is another one. "
            "Of several sources: 1 / (60 + rank). By keywords: BM25. By both: the sum of 1 / (2 + rank)."
        ),
    ]
    chunk: Annotated[int, Field(description="Which part of the item's text it is.")]
    span: Annotated[
        tuple[int, int] | None,
        Field(description="Where in the item's text that part lies: characters from, and up to (not included)."),
    ]
    payload: Annotated[dict[str, Any], Field(description="The source's payload columns.")]
    text: Annotated[
        str | None,
        Field(description="That part of the text, if the request says `text`. null: the row holds another one by now."),
    ] = None
    changed: Annotated[
        bool | None,
        Field(description="If the request says `text`: whether the row holds another text there by now, or is gone."),
    ] = None

    @classmethod
    def of(cls, hit: Hit, *, text: bool) -> SearchHit:
        """What is told of a hit."""
        told = cls(
            source=hit.source, item_id=hit.item_id, score=hit.score, chunk=hit.chunk, span=hit.span,
            payload=dict(hit.payload),
        )  # fmt: skip
        if text:
            told.text, told.changed = hit.text, hit.changed
        return told


class SearchAnswer(BaseModel):
    """The nearest, best first."""

    hits: list[SearchHit]
    degraded: Annotated[
        Mode | None,
        Field(
            description="`keywords`: the query could not be embedded, so its words alone count. `meaning`: the source "
            "has no keywords yet. null: as was asked."
        ),
    ] = None
    after: Annotated[
        WaitStatus | None,
        Field(description="If the request says `after`: how the wait for it ended, as of `POST /wait`."),
    ] = None
    as_of: Annotated[
        datetime | None,
        Field(
            description="Each change that was committed before this moment, by Postgres's clock, counts in the answer, "
            "but of items that failed. null: not known, while somebody looks at all rows, say. Not told to a key that "
            "has a filter, nor without a key."
        ),
    ] = None

    @classmethod
    def of(cls, found: SearchResult, body: Terms, access: Access) -> SearchAnswer:
        """What is told of a result to whoever may know so much."""
        told = cls(hits=[SearchHit.of(hit, text=body.text) for hit in found.hits])
        if _sees_all(access):
            told.as_of = found.as_of
        if found.degraded:
            told.degraded = found.degraded
        return told


_PROBLEMS = {
    401: "The key is wrong, has ended or is missing (REINDEXER_SEARCH_OPEN=1 lets everybody search, without `text`).",
    403: "The key's role does not allow it; its source is not attached; or its filter does not fit any more.",
    502: "Qdrant refuses the request.",
}


@router.post(
    "/search",
    summary="Find the nearest items",
    response_model_exclude_unset=True,
    responses=documented(
        {
            **_PROBLEMS,
            404: "There is no such source, or it is another one than the key's.",
            409: "There is no such generation, or it gets no edits any more.",
            503: "The embedding provider, Qdrant or Postgres does not answer in time; the provider refuses whatever it "
            "is asked; the source's points are made by another embedder than this process has; its rows can't be read "
            "for their texts; or no admin key is set.",
        }
    ),
)
async def search(
    request: Request, body: SearchRequest, postgres: PostgresPart, by: SearcherPart, access: AccessPart
) -> SearchAnswer:
    """Embeds the query and asks Qdrant. With `after` it waits before."""
    waited = await Awaiting.of(request).wait(body.after, (), body.after_timeout_s) if body.after is not None else None
    answer = await run_in_threadpool(_search, body, postgres, by, access)
    if waited is not None:
        answer.after = waited.status
    return answer


def _search(body: SearchRequest, postgres: Postgres, by: Searcher, access: Access) -> SearchAnswer:
    if body.text:
        require_key(access)  # guard open-search-text
    if body.generation is not None and access.role != "admin":  # guard search-generation-admin
        raise HTTPException(403, f"a key of the role {access.role} searches the generation that all searches use")
    since = time.monotonic() if body.after is not None else None  # guard as-of-after-mark
    found = search_sources(
        by, [partial(_searchable, postgres, by, name, body, access, since) for name in body.names], body.query,
        replace(body.terms(), mode=body.mode), partial(parse_filter, body.filter),
        forced_of=partial(forced_conditions, access),
        texts=postgres.connection if body.text else None,
    )  # fmt: skip
    return SearchAnswer.of(found, body, access)


@router.post(
    "/similar",
    summary="Find more like an item",
    response_model_exclude_unset=True,
    responses=documented(
        {
            **_PROBLEMS,
            404: "There is no such source, or the index holds nothing of the item.",
            503: "Qdrant or Postgres does not answer in time; the source's rows can't be read for their texts; or no "
            "admin key is set.",
        }
    ),
)
def more_like_this(body: SimilarRequest, postgres: PostgresPart, by: SearcherPart, access: AccessPart) -> SearchAnswer:
    """Asks Qdrant, by the vectors that it holds of the item. The item itself is no hit. Asks no provider."""
    if body.text:
        require_key(access)  # guard open-similar-text
    found = similar(
        partial(_searchable, postgres, by, body.source, body, access), postgres.connection, by, body.item_id,
        body.terms(), partial(parse_filter, body.filter), text=body.text,
        forced_of=partial(forced_conditions, access),
    )  # fmt: skip
    return SearchAnswer.of(found, body, access)


def _searchable(
    postgres: Postgres, by: Searcher, name: str, body: SearchRequest | SimilarRequest, access: Access,
    since: float | None = None,
) -> Searchable:  # fmt: skip
    generation = body.generation if isinstance(body, SearchRequest) else None
    with postgres.connection() as connection:
        source = searched_source(connection, name, access)
        if generation is not None:
            try:
                source = kept(connection, name, generation)
            except GenerationConflict as exc:
                raise HTTPException(409, str(exc)) from exc
        columns = payload_columns(connection, source) if body.filter or access.filter else ()
        collection = collection_of(connection, source)
    as_of = by.as_of.of(postgres.connection, source, since) if _sees_all(access) else None
    return Searchable(source, collection, columns, None, hides_texts=not has_key(access), as_of=as_of)


def _sees_all(access: Access) -> bool:
    """Whether it may know when others' rows were edited."""
    return has_key(access) and not access.filter  # guard as-of-key
