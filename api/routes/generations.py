"""Generations: fill the next one of a source, make searches use it, go back, and drop former ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from reindexer import rebuilding
from reindexer.backfills import runs
from reindexer.backfills.runs import Run
from reindexer.core.errors import GenerationConflict, UsageError
from reindexer.generations import lifecycle
from reindexer.generations.promotion import Promoted, Terms
from reindexer.generations.rows import Generation, generations
from reindexer.ports import Index
from reindexer.postgres.connect import Connection, Postgres, connect, server_errors
from reindexer.settings import Settings

from ..actor import ActorPart
from ..auth import keyed_router
from ..dependencies import IndexPart, PostgresPart, SettingsDep, source_or_404
from ..fields import MaxUsd, SourceName, Text
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin/generations", tags=["generations"])

MAX_WAIT_S = 30.0
"""A promotion waits no longer within one request."""

SourcePath = Annotated[SourceName, Path()]

_NO_SOURCE = {404: "There is no such source."}
_CONFLICT = {409: "The generations' states do not allow it; the answer says what to do."}


class Generations(BaseModel):
    """All generations of a source by number, those too that are dropped."""

    generations: list[Generation]


class RebuildRequest(BaseModel):
    """What to fill the next generation by."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"profile": "large"}]})

    profile: Annotated[Text | None, Field(description="Another profile of the sources file.")] = None
    max_usd: MaxUsd = None


class Rebuild(BaseModel):
    """The generation that is being filled."""

    generation: int
    run: Run


class PromoteRequest(BaseModel):
    """What a promotion, or a rollback, accepts."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"wait_s": 5, "accept_lag": True}]})

    wait_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S, description="How long to wait until it is up to date.")] = 10.0
    accept_lag: Annotated[bool, Field(description="Searches miss what is not in it yet.")] = False
    accept_failed: Annotated[bool, Field(description="Even if items failed in it that searches find now.")] = False


class Missing(BaseModel):
    """One item that searches would find before, and do not now."""

    item_id: str
    error: str


class Switched(BaseModel):
    """What searches use now."""

    generation: int
    former: Annotated[int, Field(description="Kept as a way back.")]
    collection: str
    late: Annotated[int, Field(description="Changes that are not in it yet; 0 unless that was accepted.")]
    failed: Annotated[int, Field(description="Items that failed in it and not in the former one.")]
    missing: Annotated[list[Missing], Field(description="Some of them.")]


class PruneRequest(BaseModel):
    """What to drop."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"generation": 2}]})

    generation: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="Only this one; all former ones if it is not given.")
    ] = None


class Dropped(BaseModel):
    """The generations that are dropped; workers delete what is left of them."""

    dropped: list[int]


@router.get("/{source}", summary="The generations of a source", responses=documented({**KEYED, **_NO_SOURCE}))
def show(source: SourcePath, postgres: PostgresPart) -> Generations:
    """Searches use the one whose state is `active`."""
    with postgres.connection() as connection:
        source_or_404(connection, source)
        return Generations(generations=generations(connection, source))


@router.post(
    "/{source}/rebuild",
    status_code=202,
    summary="Fill the next generation",
    responses=documented(
        {
            **KEYED,
            **_NO_SOURCE,
            **_CONFLICT,
            422: "The definition or the embedder can't be used; the answer says why.",
        }
    ),
)
def rebuild(
    source: SourcePath, body: RebuildRequest, settings: SettingsDep, postgres: PostgresPart, index: IndexPart,
    actor: ActorPart,
) -> Rebuild:  # fmt: skip
    """The listener queues its items page by page, in the `bulk` lane; edits go first, and searches do not notice."""
    with _changing(postgres, source) as connection:
        made = rebuilding.rebuild(
            settings, connection, index, source, who=actor, profile=body.profile, max_usd=body.max_usd
        )
        return Rebuild(generation=made.number, run=runs.get(connection, made.run_id))


@router.post(
    "/{source}/cancel",
    summary="Drop the generation that is being filled",
    responses=documented({**KEYED, **_NO_SOURCE, **_CONFLICT}),
)
def cancel(source: SourcePath, postgres: PostgresPart, actor: ActorPart) -> Dropped:
    """Searches do not notice."""
    with _changing(postgres, source) as connection:
        return Dropped(dropped=[lifecycle.cancel(connection, source, who=actor)])


@router.post(
    "/{source}/promote",
    summary="Make searches use the generation that is ready",
    responses=documented({**KEYED, **_NO_SOURCE, **_CONFLICT}),
)
def promote(
    source: SourcePath, body: PromoteRequest, settings: SettingsDep, postgres: PostgresPart, index: IndexPart,
    actor: ActorPart,
) -> Switched:  # fmt: skip
    """From the answer on each search uses it. The former generation is kept, and gets every edit."""
    return _switch(rebuilding.promote, source, body, settings, postgres, index, actor)


@router.post(
    "/{source}/rollback",
    summary="Make searches use the former generation again",
    responses=documented({**KEYED, **_NO_SOURCE, **_CONFLICT}),
)
def rollback(
    source: SourcePath, body: PromoteRequest, settings: SettingsDep, postgres: PostgresPart, index: IndexPart,
    actor: ActorPart,
) -> Switched:  # fmt: skip
    """It has every edit that was made since."""
    return _switch(rebuilding.rollback, source, body, settings, postgres, index, actor)


@router.post(
    "/{source}/prune", summary="Drop former generations", responses=documented({**KEYED, **_NO_SOURCE, **_CONFLICT})
)
def prune(source: SourcePath, body: PruneRequest, postgres: PostgresPart, actor: ActorPart) -> Dropped:
    """There is no way back to them."""
    with _changing(postgres, source) as connection:
        return Dropped(dropped=lifecycle.prune(connection, source, who=actor, number=body.generation))


def _switch(
    act: Callable[..., Promoted], source: str, body: PromoteRequest, settings: Settings, postgres: Postgres,
    index: Index, actor: str,
) -> Switched:  # fmt: skip
    terms = Terms(body.wait_s, body.accept_lag, body.accept_failed)
    with _changing(postgres, source) as connection:
        done = act(settings, connection, index, source, who=actor, terms=terms)
    return Switched(
        generation=done.source.generation,
        former=done.former,
        collection=done.source.collection,
        late=done.lacking.late,
        failed=done.lacking.failed,
        missing=[Missing(item_id=item_id, error=error) for item_id, error in done.lacking.examples],
    )


@contextmanager
def _changing(postgres: Postgres, source: str) -> Iterator[Connection]:
    """A connection of its own: locks on the user's table, and a promotion, take as long as they take."""
    with server_errors(postgres.url), connect(postgres.url, application_name="reindexer api") as connection:
        source_or_404(connection, source)
        try:
            yield connection
        except GenerationConflict as exc:
            raise HTTPException(409, str(exc)) from exc
        except UsageError as exc:
            raise HTTPException(422, str(exc)) from exc
