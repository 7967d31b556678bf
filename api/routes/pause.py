"""Pause and resume work; nothing is lost meanwhile."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reindexer.postgres.connect import Postgres
from reindexer.sources.pause import set_paused

from ..actor import ActorPart
from ..auth import keyed_router
from ..dependencies import PostgresPart, source_or_404
from ..fields import SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["admin"])

_ANSWERS = documented({**KEYED, 404: "There is no such source."})


class PauseRequest(BaseModel):
    """What to pause or resume."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"source": "context_items"}, {}]})

    source: Annotated[SourceName | None, Field(description="A source; none: all of them.")] = None


class PauseAnswer(BaseModel):
    """What is paused or at work now."""

    sources: list[str]
    paused: bool


@router.post("/pause", summary="Stop work on a source, or on all", responses=_ANSWERS)
def pause(body: PauseRequest, postgres: PostgresPart, actor: ActorPart) -> PauseAnswer:
    """Changes are still recorded; a batch that is being worked on is finished."""
    return _set(postgres, actor, body.source, paused=True)


@router.post("/resume", summary="Go on with a source, or with all", responses=_ANSWERS)
def resume(body: PauseRequest, postgres: PostgresPart, actor: ActorPart) -> PauseAnswer:
    """What was recorded meanwhile is worked on at once."""
    return _set(postgres, actor, body.source, paused=False)


def _set(postgres: Postgres, actor: str, source: str | None, *, paused: bool) -> PauseAnswer:
    with postgres.connection() as connection:
        if source is not None:
            source_or_404(connection, source)
        return PauseAnswer(sources=set_paused(connection, source, paused=paused, who=actor), paused=paused)
