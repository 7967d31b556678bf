"""Spend: what requests to providers cost."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from reindexer.monitoring import spend
from reindexer.monitoring.spend import By, SetAside, SpentSum

from ..auth import keyed_router
from ..dependencies import PostgresPart
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["status"])


class Spend(BaseModel):
    """Sums, in the order of their names, and what is set aside beside them."""

    days: int
    by: By
    spent: list[SpentSum]
    reserved: SetAside


@router.get("/spend", summary="What requests to providers cost", responses=documented(KEYED))
def spent(
    postgres: PostgresPart,
    by: Annotated[By, Query(description="What a line is.")] = "day",
    days: Annotated[int, Query(ge=1, le=36_600, description="So many UTC days, today included.")] = 30,
) -> Spend:
    """As `reindexer spend --json`."""
    with postgres.connection() as connection:
        lines, aside = spend.spent(connection, days), spend.reserved(connection)
    return Spend(days=days, by=by, spent=spend.summed(lines, by), reserved=aside)
