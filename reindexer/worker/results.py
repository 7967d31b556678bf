"""Report the outcomes of reindex requests under their task ids."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from reindexer.core.errors import DependencyUnavailable
from reindexer.ports import Broker
from reindexer.postgres.connect import Postgres
from reindexer.queue import requests
from reindexer.queue.settle import Answer

log = structlog.get_logger(__name__)


def report(postgres: Postgres, broker: Broker | None, answers: Sequence[Answer]) -> None:
    """Store the outcomes of requests that were just settled. Those that can't be stored now are reported later."""
    if broker is None or not answers:
        return
    try:
        broker.store_results([(answer.task_id, answer.item_id, answer.error) for answer in answers])
    except DependencyUnavailable as exc:
        log.warning("results_store_failed", error=str(exc), task_ids=len(answers))
        return
    with postgres.connection() as connection:
        requests.mark_reported(connection, [answer.task_id for answer in answers])


def report_unreported(postgres: Postgres, broker: Broker | None) -> None:
    """Store outcomes of requests settled by a process that then died, or while the backend was unavailable."""
    if broker is None:
        return
    try:
        with postgres.connection() as connection:
            requests.report_unreported(connection, broker)
    except DependencyUnavailable as exc:
        log.warning("results_store_failed", error=str(exc))
