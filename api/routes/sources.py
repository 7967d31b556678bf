"""Sources: how one is defined, and what embedding it anew would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, Field

from reindexer import wiring
from reindexer.core.change_plan import Cost
from reindexer.core.payload import Kind
from reindexer.core.price import dollars
from reindexer.core.redefinition import described
from reindexer.planning.survey import rebuild_of
from reindexer.postgres.connect import connect, server_errors
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import estimate

from ..auth import keyed_router
from ..dependencies import PostgresPart, SettingsDep, source_or_404
from ..fields import SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin/sources", tags=["status"])

SourcePath = Annotated[SourceName, Path()]

_NO_SOURCE = {404: "There is no such source."}


class FilterColumn(BaseModel):
    """A payload column."""

    name: str
    kind: Kind
    indexed: Annotated[bool, Field(description="Whether a filter on it is quick.")]


class SourceFacts(BaseModel):
    """A source as it is attached."""

    name: str
    definition: Annotated[Mapping[str, Any], Field(description="As `reindexer sources` tells it, without defaults.")]
    payload: Annotated[Sequence[FilterColumn], Field(description="By what a search can filter.")]
    keywords: bool


class SourceCost(BaseModel):
    """What embedding takes. Of a large table it is extrapolated from a sample."""

    rows: int
    is_estimate: bool
    tokens: Annotated[int, Field(description="Of all rows: what a rebuild or a backfill with `force` embeds.")]
    changed: Annotated[int, Field(description="Rows whose text is not indexed: what a backfill embeds.")]
    changed_tokens: int
    embedder: str
    dollars: Annotated[float | None, Field(description="null: the model's price is not known.")]
    changed_dollars: float | None
    rebuild: Annotated[
        Cost | None,
        Field(description="What `reindexer plan` tells of a rebuild, if the request asks for it and one can be made."),
    ] = None


@router.get("/{source}", summary="How a source is defined", responses=documented({**KEYED, **_NO_SOURCE}))
def show(source: SourcePath, postgres: PostgresPart) -> SourceFacts:
    """Its definition, and the payload columns with the kinds of their values."""
    with postgres.connection() as connection:
        found = source_or_404(connection, source)
        columns = payload_columns(connection, found)
    return SourceFacts(
        name=found.name,
        definition=described(found),
        payload=[FilterColumn(name=each.name, kind=each.kind, indexed=each.indexed) for each in columns],
        keywords=found.keywords,
    )


@router.get(
    "/{source}/cost", summary="What embedding a source would cost", responses=documented({**KEYED, **_NO_SOURCE})
)
def cost(
    source: SourcePath,
    settings: SettingsDep,
    postgres: PostgresPart,
    rebuild: Annotated[
        bool, Query(description="Whether to tell what a rebuild costs, in time and space, too.")
    ] = False,
) -> SourceCost:
    """As `reindexer estimate`: reads rows, or a sample of a large table, and embeds nothing."""
    with server_errors(postgres.url), connect(postgres.url, application_name="reindexer api") as connection:
        there = replace(source_or_404(connection, source), made_by=None)  # as a rebuild would make it
        embedder = wiring.embedder_of(settings)(there)
        counter = wiring.token_counter_of(settings, there)
        found = estimate(connection, there, embedding_spec_of(there, embedder), counter.count)
        planned = rebuild_of(settings, connection, source).cost if rebuild else None
    price = wiring.token_price(settings, there)
    return SourceCost(
        rows=found.rows,
        is_estimate=found.is_estimate,
        tokens=found.tokens,
        changed=found.changed,
        changed_tokens=found.changed_tokens,
        embedder=embedder.fingerprint,
        dollars=dollars(found.tokens, price),
        changed_dollars=dollars(found.changed_tokens, price),
        rebuild=planned,
    )
