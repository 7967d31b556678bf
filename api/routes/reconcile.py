"""Reconcile: compare a source's table with its points, and make what differs due."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Annotated

from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from reindexer.core.errors import GenerationConflict, OtherEmbedder, SourceError
from reindexer.index import reconcile as flow
from reindexer.index.reconcile import Progress, TooManyDeletions
from reindexer.ports import Index
from reindexer.postgres.connect import Postgres, connect, server_errors
from reindexer.reconciling import Reconciled, sides_of, told
from reindexer.settings import Settings

from ..actor import ActorPart
from ..auth import AccessPart, keyed_router
from ..dependencies import ComparisonsPart, IndexPart, PostgresPart, SettingsDep, source_or_404
from ..fields import SourceName
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["reconcile"])

MAX_WAIT_S = 300.0

_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ReconcileRequest(BaseModel):
    """What to compare."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"source": "context_items", "repair": False}]}
    )

    source: SourceName
    generation: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="Another generation than the one that searches use.")
    ] = None
    repair: Annotated[bool, Field(description="Make everything due that differs; workers mend it.")] = False
    max_deletions: Annotated[
        int | None,
        Field(
            ge=0, le=2**53, description="With `repair`: delete up to this many points. Without: 100, or 10 % of them."
        ),
    ] = None
    wait_s: Annotated[
        float, Field(ge=0, le=MAX_WAIT_S, description="Look again for so long at what is being worked on.")
    ] = 30.0


class JsonLines(StreamingResponse):
    """Lines of JSON, each an object."""

    media_type = "application/x-ndjson"


@router.post(
    "/reconcile",
    summary="Compare a source with its index",
    response_class=JsonLines,
    responses={
        200: {
            "description": "Lines of JSON: progress, then `result`, or `error`.",
            "content": {"application/x-ndjson": {}},
        },
        **documented(
            {
                **KEYED,
                404: "There is no such source.",
                409: "Another comparison is going on in this process, or the collection is not this database's.",
            }
        ),
    },
)
def reconcile(
    request: Request, body: ReconcileRequest, settings: SettingsDep, postgres: PostgresPart, index: IndexPart,
    comparisons: ComparisonsPart, actor: ActorPart, access: AccessPart,
) -> JsonLines:  # fmt: skip
    """As `reindexer reconcile`. It reads the whole table and all points, and lasts as long as somebody reads the
    answer. A key of the role `operate` does not raise the limit of deletions."""
    if body.max_deletions is not None and access.role != "admin":  # guard reconcile-limit-admin
        raise HTTPException(403, f"a key of the role {access.role} repairs without `max_deletions`")
    with postgres.connection() as connection:
        source_or_404(connection, body.source)
        try:
            sides_of(settings, connection, index, body.source, body.generation)
        except (GenerationConflict, SourceError, OtherEmbedder) as exc:
            raise HTTPException(409, str(exc)) from exc

    def compare(progress: Progress) -> tuple[Reconciled, str | None]:
        return _compare(settings, postgres, index, body, actor, progress)

    lines = comparisons.begin(compare)
    if lines is None:
        raise HTTPException(409, "another comparison is going on in this process; wait for its end")
    return JsonLines(lines.told(request.app.state.ending), headers=_UNBUFFERED)


def _compare(
    settings: Settings, postgres: Postgres, index: Index, body: ReconcileRequest, actor: str, progress: Progress
) -> tuple[Reconciled, str | None]:
    started, refused, queued = time.monotonic(), None, None
    with server_errors(postgres.url), connect(postgres.url, application_name="reindexer api") as connection:
        sides = sides_of(settings, connection, index, body.source, body.generation)
        with closing(flow.compare(sides, progress, wait_s=body.wait_s)) as findings:
            if body.repair:
                progress("repair", 0)
                try:
                    queued = flow.repair(sides, findings, who=actor, max_deletions=body.max_deletions)
                except TooManyDeletions as exc:
                    refused = str(exc)
            return told(body.source, findings, queued, time.monotonic() - started), refused
