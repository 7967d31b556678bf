"""Backfills: rebuild all items of a source, or some, and follow the progress."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from reindexer.backfills import runs as backfills
from reindexer.backfills.runs import Run
from reindexer.postgres.connect import Connection, Postgres
from reindexer.sources.condition import ConditionRejected

from ..actor import ActorPart
from ..auth import AccessPart, keyed_router
from ..dependencies import PostgresPart, source_or_404
from ..fields import MaxUsd, SourceName, Text
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin/backfills", tags=["backfills"])

RunId = Annotated[int, Path(ge=1, le=2**63 - 1)]

_NO_RUN = {404: "There is no such run."}
_ENDED = {409: "The run has ended, or is of a kind that can't be cancelled."}


class BackfillRequest(BaseModel):
    """What to rebuild."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"source": "context_items"},
                {"source": "context_items", "where": "updated_at > now() - interval '1 day'", "force": True},
            ]
        },
    )

    source: SourceName
    where: Annotated[
        Text | None,
        Field(
            max_length=10_000,
            description="A boolean SQL expression over the table's columns; all rows if it is not given.",
        ),
    ] = None
    force: Annotated[bool, Field(description="Embed anew although the text is unchanged.")] = False
    max_usd: MaxUsd = None


class Backfills(BaseModel):
    """Open runs first, then the newest; at most 100."""

    backfills: list[Run]


@router.post(
    "",
    status_code=202,
    summary="Start a backfill",
    responses=documented(
        {
            **KEYED,
            404: "There is no such source.",
            409: "A backfill of this source is open.",
            422: "The condition can't be used; the answer says why.",
        }
    ),
)
def start(body: BackfillRequest, postgres: PostgresPart, actor: ActorPart, access: AccessPart) -> Run:
    """The listener queues the items page by page, in the `bulk` lane; edits go first.

    A condition is SQL, which may read whatever the API's database role may: it needs a key of the role `admin`.
    """
    if body.where is not None and access.role != "admin":  # guard key-condition-admin
        raise HTTPException(403, f"a key of the role {access.role} starts backfills without `where`, which is SQL")
    with postgres.connection() as connection:
        source = source_or_404(connection, body.source)
        try:
            return backfills.start(
                connection, source, where=body.where, force=body.force, who=actor, max_usd=body.max_usd
            )
        except ConditionRejected as exc:
            raise HTTPException(422, str(exc)) from exc
        except backfills.RunConflict as exc:
            raise HTTPException(409, str(exc)) from exc


@router.get("", summary="Backfills, first fills and other runs over whole sources", responses=documented(KEYED))
def runs(postgres: PostgresPart, source: Annotated[SourceName | None, Query()] = None) -> Backfills:
    """Open ones first, then the newest; at most 100."""
    with postgres.connection() as connection:
        return Backfills(backfills=backfills.recent(connection, source))


@router.get("/{run_id}", summary="How far a backfill is", responses=documented({**KEYED, **_NO_RUN}))
def run(run_id: RunId, postgres: PostgresPart) -> Run:
    """It is `finished` when the last of its items is settled."""
    return _of(postgres, backfills.get, run_id)


@router.post("/{run_id}/pause", summary="Pause a backfill", responses=documented({**KEYED, **_NO_RUN, **_ENDED}))
def pause(run_id: RunId, postgres: PostgresPart, actor: ActorPart) -> Run:
    """No more items are queued; those that are queued are worked on."""
    return _of(postgres, partial(backfills.pause, who=actor), run_id)


@router.post(
    "/{run_id}/resume", summary="Go on with a paused backfill", responses=documented({**KEYED, **_NO_RUN, **_ENDED})
)
def resume(run_id: RunId, postgres: PostgresPart, actor: ActorPart) -> Run:
    """It goes on where it was."""
    return _of(postgres, partial(backfills.resume, who=actor), run_id)


@router.post("/{run_id}/cancel", summary="Cancel a backfill", responses=documented({**KEYED, **_NO_RUN, **_ENDED}))
def cancel(run_id: RunId, postgres: PostgresPart, actor: ActorPart) -> Run:
    """No more items are queued; those that no worker has taken and nobody else asked for are taken back."""
    return _of(postgres, partial(backfills.cancel, who=actor), run_id)


def _of(postgres: Postgres, act: Callable[[Connection, int], Run], run_id: int) -> Run:
    with postgres.connection() as connection:
        try:
            return act(connection, run_id)
        except backfills.NoSuchRun as exc:
            raise HTTPException(404, str(exc)) from exc
        except backfills.RunConflict as exc:
            raise HTTPException(409, str(exc)) from exc
