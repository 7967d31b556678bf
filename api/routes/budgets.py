"""Budgets: what may be spent, and what is used of it."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from reindexer import budgets
from reindexer.core.budget import Kind, Period
from reindexer.core.errors import UsageError
from reindexer.postgres.connect import Connection

from ..actor import ActorPart
from ..auth import keyed_router
from ..dependencies import PostgresPart, source_or_404
from ..fields import SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["status"])


class Budget(BaseModel):
    """What may be spent in a period, and what counts against it: what is spent, and what processes have set aside."""

    source: str | None
    """None: all sources together."""
    kind: Kind
    period: Period
    usd: float
    used_usd: float
    stops_edits: bool
    """Once it is used up, edits wait as well as backfills."""
    state: Literal["open", "closed"]
    """`closed`: it is used up, and what it stops waits."""
    ends: date | None
    """At 00:00 UTC of this day the next period begins. None: the budget ends with its run."""


class Budgets(BaseModel):
    """All budgets."""

    budgets: list[Budget]


class BudgetRequest(BaseModel):
    """What may be spent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"period": "day", "usd": 5}, {"source": "context_items", "usd": None}]},
    )

    source: Annotated[SourceName | None, Field(description="A source; none: all together.")] = None
    kind: Annotated[Kind, Field(description="Searches are counted apart.")] = "indexing"
    period: Annotated[Period, Field(description="Of UTC; or the backfill or rebuild that is open.")] = "day"
    usd: Annotated[
        float | None, Field(ge=0, lt=budgets.MAX_USD, allow_inf_nan=False, description="Dollars; null: no limit.")
    ]
    stops_edits: Annotated[
        bool | None, Field(description="Whether edits wait, too, once it is used up. Not given: as before, or not.")
    ] = None


@router.get("/budgets", summary="What may be spent, and what is used of it", responses=documented(KEYED))
def every(postgres: PostgresPart) -> Budgets:
    """As `reindexer budget --json`."""
    with postgres.connection() as connection:
        return _all(connection)


@router.put(
    "/budgets",
    summary="Set what may be spent",
    responses=documented({**KEYED, 404: "There is no such source."}),
)
def put(body: BudgetRequest, postgres: PostgresPart, actor: ActorPart) -> Budgets:
    """Work that waited goes on within 5 s of a raise."""
    with postgres.connection() as connection:
        if body.source is not None:
            source_or_404(connection, body.source)
        try:
            budgets.set_budget(
                connection, who=actor, source=body.source or "", kind=body.kind, period=body.period, usd=body.usd,
                stops_edits=body.stops_edits,
            )  # fmt: skip
        except UsageError as exc:
            raise HTTPException(422, str(exc)) from exc
        return _all(connection)


def _all(connection: Connection) -> Budgets:
    return Budgets(budgets=[Budget(**each.facts) for each in budgets.all_budgets(connection)])
