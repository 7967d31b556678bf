"""The Celery tasks: thin shells around `reindexer.worker`.

A message carries no state that matters. The due rows are in Postgres, so a lost message costs only time.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any

import psycopg
import structlog
from billiard import pool as billiard_pool
from billiard.exceptions import WorkerLostError
from celery import Task
from celery.exceptions import Ignore
from celery.signals import celeryd_after_setup, worker_process_init, worker_process_shutdown, worker_shutdown
from celery.worker.request import Request
from celery.worker.state import task_ready

from reindexer import logs, wiring
from reindexer.adapters.broker.celery_broker import OWNER_HEADER, REQUEST_TASK, WORK_TASK, CeleryBroker
from reindexer.adapters.broker.heartbeats import BEAT_TASK
from reindexer.celery_app import app, broker
from reindexer.core.errors import DependencyUnavailable, ItemFailed, ReindexerError, TransientError
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.timer import Timer
from reindexer.generations.upkeep import tidy_index
from reindexer.index.ownership import identity
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import connect
from reindexer.queue import requests
from reindexer.settings import Settings
from reindexer.tracing import process as tracing
from reindexer.worker import one_request, runtime
from reindexer.worker.warmup import warm
from reindexer.worker.worker import Worker

log = structlog.get_logger(__name__)

AGAIN_S = 1.0
"""The pause before a reindex request that could not be recorded is sent again."""


@cache
def _worker() -> Worker:
    """This process's worker, also for its forks: connections are made lazily, per process id."""
    runtime.set_for_work()
    settings = Settings.load()
    return wiring.worker(settings, _broker(), pool_threads=settings.claims_in_flight)


@cache
def _broker() -> CeleryBroker:
    """This process's broker, also for its forks."""
    return broker()


@celeryd_after_setup.connect
def _prepare(**_: Any) -> None:
    """Before the pool forks, and once the log is set up."""
    tracing.prepare()


@worker_process_init.connect
def _warm(**_: Any) -> None:
    """Warm up each process of a forking pool in a thread; the process takes messages meanwhile."""
    worker = _worker()  # made here: a task that asked for it at the same time would make another
    threading.Thread(target=_warm_in_thread, args=[worker], name="warm", daemon=True).start()  # guard warm-pool-process


def _warm_in_thread(worker: Worker) -> None:
    with suppress(ItemFailed), _unexpected(task="warm"):
        warm(worker)
        tracing.traces()


@worker_process_init.connect
def _leave_soon(**_: Any) -> None:
    """Let a pool process that ends wait for a second until the main process has read all its answers, not for 30.

    The main process never reads them all if it was told to end just after it gave the pool a message: it forgets the
    message, which the pool process runs. A supervisor kills a worker that takes 30 s, and its counts are lost.
    """
    billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10  # guard pool-process-leaves


@worker_process_shutdown.connect
@worker_shutdown.connect
def _end_work(**_: Any) -> None:
    """A process that ends in order ends its work, and loses no counts. The first signal is a forked child's."""
    if _worker.cache_info().currsize:
        _worker().close()
    tracing.close()


_beat_timer = Timer(heartbeat.BEAT_S / 2)


def _beat(task: Task[Any, Any]) -> None:
    """Write a heartbeat, at most every few seconds, so that a worker busy with long batches does not count as dead."""
    if task.request.hostname and _beat_timer.due(time.monotonic()):
        with _worker().postgres.connection() as connection:
            heartbeat.beat(connection, "worker", task.request.hostname)


@contextmanager
def _unexpected(**about: str) -> Iterator[None]:
    """The edge of the program. Celery would log and store the text of any error, and that text may quote a row."""
    try:
        yield
    except (ReindexerError, Ignore):
        raise
    # guard secret-task-error-text
    except Exception as exc:  # noqa: BLE001
        log.error("unexpected_error", **logs.where(exc), **about)
        raise ItemFailed(f"an unexpected error ({type(exc).__name__}); the worker's log says where") from None


@cache
def _instance() -> str | None:
    """The identity of this database."""
    with _worker().postgres.connection() as connection:
        return identity(connection, Settings.load().instance)


_foreign_timer = Timer(10.0)


def _drop_foreign(task: Task[Any, Any]) -> None:
    """Ignore a message about another database's work; that database's listener sends again what is due there."""
    owner = task.request.get(OWNER_HEADER)
    try:
        ours = _instance() if owner else None
    except (ReindexerError, psycopg.Error):
        return  # the task itself will fail
    if ours is None or owner == ours:  # guard task-foreign-message-dropped
        return
    if _foreign_timer.due(time.monotonic()):
        log.warning(
            "foreign_message_dropped", task=task.name, of=owner, ours=ours, advice="give each a REINDEXER_PREFIX"
        )
    raise Ignore


@app.task(name=BEAT_TASK, bind=True, ignore_result=True, throws=(ReindexerError,))
def heartbeat_task(self: Task[Any, Any]) -> None:
    """Record that this worker takes and runs messages, report results that nobody has reported yet, and bring
    collections and aliases to what Postgres says of them."""
    with _unexpected(task="beat"):
        _beat(self)
        _worker().report_unreported()  # guard request-unreported-result
        tidy_index(_worker().postgres, _worker().index)


@app.task(name=WORK_TASK, bind=True, ignore_result=True, throws=(ItemFailed,))
def work_lane_task(self: Task[Any, Any], lane: str) -> None:
    """Work on what is ready in a lane. See `Worker.accept`: this process can take the next message soon."""
    with _unexpected(lane=lane):
        _drop_foreign(self)
        _worker().accept(Lane(lane), _work_on, meanwhile=partial(_beat_if_possible, self))


def _beat_if_possible(task: Task[Any, Any]) -> None:
    with suppress(ReindexerError):
        _beat(task)


def _work_on(lane: Lane, *, budget_s: float = math.inf, waits: bool = True) -> None:
    try:
        _worker().run_lane(lane, budget_s=budget_s, waits=waits)
    except ReindexerError as exc:
        log.error("batch_failed", lane=lane, error=str(exc))
    # guard secret-task-error-text
    except Exception as exc:  # noqa: BLE001
        log.error("unexpected_error", **logs.where(exc), lane=lane)


class _ReindexRequest(Request):  # type: ignore[misc]
    """A message of `regenerate_embedding_task` in the worker's main process."""

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """When the pool process dies, Celery would report FAILURE. But a recorded reindex request is answered later."""
        exc = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(exc, WorkerLostError) and _is_recorded(self.id):
            task_ready(self)
            log.warning("pool_process_died", task_id=self.id)
            return None
        return super().on_failure(exc_info, *args, **options)


def _is_recorded(task_id: str) -> bool:
    try:
        url = Settings.load().require_database_url()
        with connect(url, application_name="reindexer worker") as connection:
            return requests.task_state(connection, task_id) is not None
    except ReindexerError:
        return True  # unknown while Postgres is away; recording it was the task's first step


# guard request-pool-process-death
@app.task(name=REQUEST_TASK, bind=True, throws=(ItemFailed,), Request=_ReindexRequest)
def regenerate_embedding_task(self: Task[Any, Any], item_id: str, source: str = CONTEXT_ITEMS.name) -> str:
    """Embed one item anew, changed or not. Due neighbours are embedded in the same batch.

    Callable from any application with the same broker. The result is the item's id, or FAILURE with the reason. While
    another claim holds the item, or the item waits for a retry, this returns without a result: the worker that settles
    the item stores the result under this task id. While Postgres is away the message returns to the end of its queue.
    """
    task_id = self.request.id or str(uuid.uuid4())
    with _unexpected(task_id=task_id):
        _drop_foreign(self)
        try:
            _beat(self)
            return _regenerate(task_id, str(item_id), source)
        except TransientError as exc:  # guard request-postgres-outage-retry
            log.warning("request_deferred", task_id=task_id, error=str(exc))
            time.sleep(AGAIN_S)
            try:
                _broker().send_requests([(task_id, source, str(item_id))])
            except DependencyUnavailable:
                raise ItemFailed(str(exc)) from None
            raise Ignore from None


def _regenerate(task_id: str, item_id: str, source: str) -> str:
    worker = _worker()
    asked = one_request.begin(worker, task_id, source, item_id)
    try:
        state = one_request.attempt(worker, asked)
    except ItemFailed:
        raise
    except ReindexerError as exc:
        log.error("batch_failed", task_id=task_id, error=str(exc))
        raise Ignore from exc  # the worker that claims the item next answers the request
    if not state.is_final:
        raise Ignore
    return one_request.item_of(state)
