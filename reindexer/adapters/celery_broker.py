"""The Celery app and `Broker` on it: Redis or RabbitMQ.

Messages name their tasks as text, so that whoever sends them need not import what runs them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery, states
from kombu import Connection as BrokerConnection
from kombu import Exchange, Queue
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from reindexer.core.errors import DependencyAway, ItemFailed
from reindexer.core.items import LANES, REQUEST_LANE
from reindexer.core.source import CONTEXT_ITEMS

WORK_TASK = "reindexer.tasks.work_lane_task"
REQUEST_TASK = "reindexer.tasks.regenerate_embedding_task"

SEND_TIMEOUT_S = 2
"""How long a sender waits for one answer of the broker."""


def make_celery(broker_url: str | None, result_backend: str | None, *, result_expires_s: int) -> Celery:
    """The app. JSON only; early acknowledgement (a lost message costs time, never data); results expire.

    Whoever only sends takes no `result_backend`: Redis' subscribes to the result of each task that is sent, and the
    answers pile up where nobody reads them.
    """
    app = Celery("reindexer", broker=broker_url, backend=result_backend, include=["reindexer.tasks"])
    if result_backend is None:
        app.backend_cls = "disabled"  # the argument would lose against CELERY_RESULT_BACKEND in the environment
    transport = (broker_url or "").partition("://")[0]
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_queues=[_queue(lane) for lane in LANES],
        task_default_queue="live",
        task_create_missing_queues=False,
        task_acks_late=False,
        task_track_started=False,
        task_ignore_result=False,
        result_expires=result_expires_s,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        broker_connection_max_retries=None,  # a worker that gave up would end, after an outage of an hour
        broker_heartbeat=10,
        control_queue_exclusive=False,  # RabbitMQ refuses it while a worker's old, dead connection is not known to be
        broker_transport_options=_transport_options(transport, sends_only=result_backend is None),
        result_backend_transport_options={"retry_policy": {"max_retries": 1}},
        redis_socket_timeout=5.0,
        redis_socket_connect_timeout=2.0,
        redis_backend_health_check_interval=30,
        enable_utc=True,
    )
    return app


def _transport_options(transport: str, *, sends_only: bool) -> dict[str, object]:
    """Times for a broker that takes connections and says nothing; shorter for who only sends, and has a drain to do."""
    silence_s = SEND_TIMEOUT_S if sends_only else 5
    if transport in ("redis", "rediss"):
        return {
            "queue_order_strategy": "priority",
            "socket_timeout": silence_s,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,  # of consumers: a connection that leads nowhere is left after twice as long
        }
    if transport in ("amqp", "amqps", "pyamqp"):
        return {"read_timeout": silence_s, "write_timeout": silence_s}
    return {}


def _queue(lane: str) -> Queue:
    """Celery publishes by the broker's default exchange, so a flushed Redis, which forgets bindings, loses nothing."""
    return Queue(lane, Exchange(lane), routing_key=lane)


class CeleryBroker:
    """`Broker` on a Celery app. One connection for each process and thread."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._local = threading.local()

    def depth(self, lane: str) -> int:
        """See `reindexer.ports.Broker.depth`: a declare, answered with the number of messages."""
        with self._connection() as connection:
            queue = _queue(lane)
            # Not passive: an empty queue does not exist in Redis, and declaring it again changes nothing in RabbitMQ.
            declared = connection.default_channel.queue_declare(
                queue.name, durable=queue.durable, auto_delete=queue.auto_delete
            )
            return int(declared.message_count)

    def send_work(self, lane: str, messages: int) -> None:
        """See `reindexer.ports.Broker.send_work`."""
        with self._connection() as connection:
            producer = self.app.amqp.Producer(connection, auto_declare=False)
            for _ in range(messages):
                self.app.send_task(WORK_TASK, (lane,), queue=lane, producer=producer, retry=False, ignore_result=True)

    def send_requests(self, requests: Sequence[tuple[str, str, str]]) -> int:
        """See `reindexer.ports.Broker.send_requests`. Raises DependencyAway only if not even one left."""
        sent = 0
        try:
            with self._connection() as connection:
                producer = self.app.amqp.Producer(connection, auto_declare=False)
                for task_id, source, item_id in requests:
                    kwargs = {} if source == CONTEXT_ITEMS.name else {"source": source}
                    self.app.send_task(
                        REQUEST_TASK, (item_id,), kwargs, task_id=task_id, queue=REQUEST_LANE, producer=producer,
                        retry=False,
                    )  # fmt: skip
                    sent += 1
        except DependencyAway:
            if not sent:
                raise
        return sent

    def store_results(self, results: Sequence[tuple[str, str, str | None]]) -> None:
        """See `reindexer.ports.Broker.store_results`."""
        backend = self.app.backend
        try:
            for task_id, item_id, error in results:
                if error is None:
                    backend.store_result(task_id, item_id, states.SUCCESS)
                else:
                    backend.store_result(task_id, ItemFailed(error), states.FAILURE)
        except (KombuError, RedisError, OSError) as exc:
            raise DependencyAway(f"the result backend does not answer: {type(exc).__name__}") from exc

    def ping(self) -> None:
        """See `reindexer.ports.Broker.ping`. A round trip: kombu takes a connection that was made once for alive."""
        self.depth(LANES[0])

    def close(self) -> None:
        """Close this thread's connection."""
        held: tuple[int, BrokerConnection] | None = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid():
            held[1].release()
        self._local.held = None

    @contextmanager
    def _connection(self) -> Iterator[BrokerConnection]:
        held: tuple[int, BrokerConnection] | None = getattr(self._local, "held", None)
        try:
            if held is None or held[0] != os.getpid():
                held = (os.getpid(), self.app.connection_for_write())
                self._local.held = held
            held[1].ensure_connection(max_retries=1, interval_start=0, timeout=2)
            yield held[1]
        except (OperationalError, KombuError, RedisError, OSError, *_transport_errors(held)) as exc:
            self._local.held = None
            if held is not None:
                held[1].release()
            raise DependencyAway(f"the broker does not answer: {type(exc).__name__}") from exc


def _transport_errors(held: tuple[int, BrokerConnection] | None) -> tuple[type[Exception], ...]:
    if held is None:
        return ()
    return (*held[1].connection_errors, *held[1].channel_errors)
