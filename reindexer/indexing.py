"""Index one item here and now, without Celery."""

from __future__ import annotations

import atexit
import time
import uuid
from functools import cache

from reindexer import wiring
from reindexer.core.errors import ItemFailed, SourceError, TransientError
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.queue import requests
from reindexer.settings import Settings
from reindexer.sources.embedder_record import recorded_embedding_spec
from reindexer.sources.store import problems
from reindexer.worker.worker import Worker

_LANE = "bulk"


def generate_context_item_embedding(item_id: str, *, timeout_s: float = 300.0) -> None:
    """Embed one context item anew and write it to Qdrant; returns when a search can find it.

    Does the same work as `regenerate_embedding_task`, with the same claims and retries, in the caller's thread. Raises
    ItemFailed with the reason when no retry is left; TransientError if it takes longer than `timeout_s`; OtherEmbedder
    if the source's points are made by another embedder than the settings name here; another SourceError if the source
    can't be worked on (a key is refused, a column is missing). The item is embedded once that is mended.
    """
    worker = _worker()
    task_id, until = str(uuid.uuid4()), time.monotonic() + timeout_s
    with worker.postgres.connection() as connection:
        recorded_embedding_spec(
            connection, CONTEXT_ITEMS, worker.embedder_of(CONTEXT_ITEMS)
        )  # fail now, not by timeout
        item_id = requests.as_recorded(connection, CONTEXT_ITEMS.name, str(item_id))
        wanted = requests.ReindexRequest(task_id, item_id)
        requests.record(connection, CONTEXT_ITEMS.name, [wanted], lane=_LANE, sent=True)
    while True:
        worker.run_item(CONTEXT_ITEMS.name, item_id, alone=True)
        with worker.postgres.connection() as connection:
            state = requests.task_state(connection, task_id)
            problem = problems(connection).get(CONTEXT_ITEMS.name)
        if state is None or state.state == "SUCCESS":
            return
        if state.state == "FAILURE":
            raise ItemFailed(state.error or "failed")
        if problem is not None and state.waits_for == problem:
            raise SourceError(f"{problem}; it is done when that is mended")
        if time.monotonic() > until:
            raise TransientError(
                f"still {state.state} after {timeout_s:.0f} s: {state.waits_for or 'another claim holds it'}"
            )
        time.sleep(0.05)


@cache
def _worker() -> Worker:
    worker = wiring.worker(Settings.load(), None)
    atexit.register(worker.counters.close)
    return worker
