"""History: what waited, how fresh it was and how fast it went."""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Query

from reindexer.monitoring.history import MAX_HOURS, History

from ..auth import keyed_router
from ..dependencies import HistoriesPart
from ..fields import SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["status"])


@router.get(
    "/history",
    summary="What waited, and how fast it went, minute by minute",
    responses=documented({**KEYED, 404: "There is no such source."}),
)
async def history(
    histories: HistoriesPart,
    source: Annotated[
        SourceName | None, Query(description="One source. Without it: all together, with their lanes.")
    ] = None,
    hours: Annotated[int, Query(ge=1, le=MAX_HOURS, description="So many of the last hours.")] = 24,
) -> History:
    """At most some 240 steps, oldest first. A step in which nothing was recorded is missing."""
    found = await histories.get(source, hours)
    if found is None:
        raise HTTPException(404, f"there is no source {source!r}")
    return found
