"""One reindex request, answered by the process that records it: the Celery task and the synchronous call share this.

The request is committed before any work, so a process that dies leaves work that another worker answers.
"""

from __future__ import annotations

from reindexer.core.errors import ItemFailed
from reindexer.core.lanes import REQUEST_LANE
from reindexer.queue import requests
from reindexer.queue.requests import ReindexRequest, TaskState
from reindexer.worker.worker import Worker


def begin(worker: Worker, task_id: str, source: str, item_id: str) -> TaskState:
    """Record the request, unless it is recorded already. Returns its state; the id is in the spelling of the triggers.

    Raises ItemFailed if there is no such source, TransientError while Postgres is away.
    """
    with worker.postgres.connection() as connection:
        known = requests.task_state(connection, task_id)
        if known is not None:
            return known
        item_id = requests.as_recorded(connection, source, item_id)
        if not requests.record(connection, source, [ReindexRequest(task_id, item_id)], lane=REQUEST_LANE, sent=True):
            raise ItemFailed(f"there is no source {source!r}")
    return TaskState(task_id, source, item_id, None, "PENDING", None)


def attempt(worker: Worker, asked: TaskState, *, alone: bool = False) -> TaskState:
    """Work once on the item of an unanswered request. Returns the request's state, which may still not be final.

    `alone`: without its due neighbours. Raises ItemFailed if the source was detached meanwhile, and what claims raise.
    """
    if asked.is_final:
        return asked
    worker.run_item(asked.source, asked.item_id, alone=alone)
    with worker.postgres.connection() as connection:
        state = requests.task_state(connection, asked.task_id)
    if state is None:
        raise ItemFailed(f"the source {asked.source!r} was detached meanwhile")
    return state


def item_of(answered: TaskState) -> str:
    """The item of a request that succeeded. Raises ItemFailed with the reason if it failed."""
    if answered.state == "FAILURE":
        raise ItemFailed(answered.error or "failed")
    return answered.item_id
