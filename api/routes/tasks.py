"""Tasks: the outcome of a task id, from Postgres; it survives a flush of Redis."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from reindexer.queue.requests import task_state

from ..auth import keyed_router
from ..dependencies import PostgresPart
from ..fields import TaskId
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin/tasks", tags=["bulk"])


class TaskAnswer(BaseModel):
    """One task."""

    model_config = ConfigDict(from_attributes=True)

    task_id: str
    state: Annotated[
        Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE"],
        Field(description="FAILURE only when no retry is left."),
    ]
    source: str
    item_id: str
    error: Annotated[str | None, Field(description="Why it failed.")]
    waits_for: Annotated[str | None, Field(description="Why it is tried again.")]


@router.get(
    "/{task_id}",
    summary="What became of a task",
    responses=documented(
        {
            **KEYED,
            404: "This id was never handed out, or its task ended more than a week ago.",
        }
    ),
)
def task(task_id: TaskId, postgres: PostgresPart) -> TaskAnswer:
    """Of the ids that `POST /admin/bulk/regenerate-embeddings` or Celery handed out."""
    with postgres.connection() as connection:
        state = task_state(connection, task_id)
    if state is None:
        raise HTTPException(404, "this task id was never handed out, or its task ended more than a week ago")
    return TaskAnswer.model_validate(state)
