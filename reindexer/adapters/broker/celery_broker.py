"""The Celery app and `Broker` on it: Redis or RabbitMQ.

Messages name their tasks as text, so that a sender need not import the code that runs them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

from celery import Celery, states
from celery.app.amqp import Queues
from celery.exceptions import BackendError
from kombu import Connection as BrokerConnection
from kombu import Exchange, Queue

from reindexer.adapters.broker.errors import BROKER_ERRORS, reason
from reindexer.adapters.broker.hold import hold
from reindexer.core.broker_url import REDIS_SCHEMES, BrokerUrl
from reindexer.core.errors import DependencyUnavailable, ItemFailed, PrefixTaken
from reindexer.core.lanes import LANES, REQUEST_LANE, Lane
from reindexer.core.per_process import PerProcess
from reindexer.core.queues import Names
from reindexer.core.source import CONTEXT_ITEMS

WORK_TASK = "reindexer.tasks.work_lane_task"
REQUEST_TASK = "reindexer.tasks.regenerate_embedding_task"

OWNER_HEADER = "reindexer_database"
"""Names the database that a message is about. Messages of applications and of older versions lack it."""

LOOK_S = 10.0
"""The interval at which a connection checks which database holds the prefix."""

SEND_TIMEOUT_S = 2  # guard broker-send-timeout
"""The timeout of a sender for one answer of the broker."""


def make_celery(
    server: BrokerUrl | None,
    results: BrokerUrl | None,
    *,
    result_expires_s: int,
    names: Names = Names(),  # noqa: B008
) -> Celery:
    """The app. JSON only; early acknowledgement (a lost message costs time, never data); results expire.

    A process that only sends passes no `results`: Redis' backend subscribes to the result of each task that it
    sends, and the answers pile up where nobody reads them.
    """
    url = server.url if server else None
    app = Celery("reindexer", broker=url, include=["reindexer.tasks"])
    app.backend_cls = results.url if results else "disabled"  # an argument would lose against the environment
    app.amqp.queues_cls = LaneQueues
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],  # guard broker-json-only
        result_accept_content=["json"],
        task_queues=[_queue(names, lane) for lane in LANES],
        task_default_queue=names.queue(Lane.LIVE),
        task_create_missing_queues=False,
        task_acks_late=False,
        task_track_started=False,
        task_ignore_result=False,
        result_expires=result_expires_s,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_consumer="reindexer.adapters.broker.consumer:LastingConsumer",
        broker_read_url=url,  # CELERY_BROKER_URL in the environment would win over `broker_url`
        broker_write_url=url,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        broker_connection_max_retries=None,  # a worker that gave up would end after an outage of an hour
        broker_heartbeat=10,
        broker_use_ssl=_broker_tls(server),
        control_exchange=names.prefix,  # keeps other applications' `celery control` away from our workers
        event_exchange=f"{names.prefix}.events",
        control_queue_exclusive=False,  # RabbitMQ refuses an exclusive one until it notices a worker's dead connection
        broker_transport_options=_transport_options(server, names, sends_only=results is None),
        result_backend_transport_options=_result_options(results, names),
        redis_backend_use_ssl=dict(results.tls) if results and results.tls else None,
        redis_socket_timeout=5.0,
        redis_socket_connect_timeout=2.0,
        redis_backend_health_check_interval=30,
        enable_utc=True,
    )
    return app


def _broker_tls(server: BrokerUrl | None) -> dict[str, Any] | None:
    if not server or not server.tls:
        return None
    return server.amqp_tls if server.scheme == "amqps" else dict(server.tls)


def _transport_options(server: BrokerUrl | None, names: Names, *, sends_only: bool) -> dict[str, Any]:
    """Timeouts for a broker that accepts connections and sends nothing. A pure sender's are shorter: it also drains."""
    silence_s = SEND_TIMEOUT_S if sends_only else 5
    if server and server.scheme in REDIS_SCHEMES:
        return {
            "queue_order_strategy": "priority",
            "socket_timeout": silence_s,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            # guard broker-health-check
            "health_check_interval": 10,  # of consumers: a dead connection is left after twice as long
            # The messages that a worker holds. Applications that shared these keys would restore each other's messages
            # after their own timeouts.
            # guard broker-unacked-namespace
            **{f"{key}_key": f"{names.prefix}.{key}" for key in ("unacked", "unacked_index", "unacked_mutex")},
            **_of_sentinels(server),
        }
    if server and server.scheme in ("amqp", "amqps", "pyamqp"):
        return {"read_timeout": silence_s, "write_timeout": silence_s}
    return {}


def _result_options(results: BrokerUrl | None, names: Names) -> dict[str, Any]:
    options = {"retry_policy": {"max_retries": 1}, "global_keyprefix": names.results}
    return options | (_of_sentinels(results) if results else {})


def _of_sentinels(server: BrokerUrl) -> dict[str, Any]:
    """Options of a URL that names sentinels. Their timeouts are short, too: a silent sentinel is passed over."""
    if not server.master_name:
        return {}
    return {"master_name": server.master_name, "sentinel_kwargs": {"socket_timeout": 1, "socket_connect_timeout": 1}}


def _queue(names: Names, lane: Lane) -> Queue:
    """The queue of a lane. Celery publishes to it through the broker's default exchange, so a flushed Redis, which
    forgets bindings, loses no messages.

    It has the type that is RabbitMQ's default.
    """
    name = names.queue(lane)
    return Queue(name, Exchange(name), routing_key=name)


class LaneQueues(Queues):  # type: ignore[misc]
    """Lets `-Q` take lanes for their queues, as service units of versions without a prefix name them."""

    def select(self, include: str | Sequence[str] | None) -> None:
        """See `Queues.select`."""
        named = [include] if isinstance(include, str) else list(include or ())
        ours = {name.rpartition(".")[2]: name for name in self}
        super().select([name if name in self else ours.get(name, name) for name in named])


class _Local(threading.local):
    """One thread's connection."""

    held: BrokerConnection | None = None
    looked_at = -inf
    """When the prefix's holder was last looked at (monotonic)."""


class CeleryBroker:
    """`Broker` on a Celery app. One connection per process and thread."""

    def __init__(self, app: Celery, names: Names = Names()) -> None:  # noqa: B008
        self.app = app
        self.names = names
        self._owner: str | None = None
        self._locals = PerProcess(_Local)

    def hold(self, owner: str, *, instead_of: str | None = None) -> str:
        """See `reindexer.ports.Broker.hold`."""
        self._owner = None  # until the prefix's holder is known
        try:
            with self._connection() as connection:
                return hold(connection, self.names.database, owner, instead_of=instead_of)
        finally:
            self._owner = owner

    def depth(self, lane: Lane) -> int:
        """See `reindexer.ports.Broker.depth`. The answer to a queue declaration holds the number of messages."""
        with self._connection() as connection:
            queue = _queue(self.names, lane)
            # Not passive: an empty queue does not exist in Redis, and declaring it again changes nothing in RabbitMQ.
            declared = connection.default_channel.queue_declare(
                queue.name, durable=queue.durable, auto_delete=queue.auto_delete
            )
            return int(declared.message_count)

    def send_work(self, lane: Lane, messages: int) -> None:
        """See `reindexer.ports.Broker.send_work`."""
        with self._connection() as connection:
            producer = self.app.amqp.Producer(connection, auto_declare=False)
            for _ in range(messages):
                self.app.send_task(
                    WORK_TASK, (lane,), queue=self.names.queue(lane), producer=producer, retry=False,
                    ignore_result=True, headers=self._headers(),
                )  # fmt: skip

    def send_requests(self, requests: Sequence[tuple[str, str, str]]) -> int:
        """See `reindexer.ports.Broker.send_requests`. Raises DependencyUnavailable only if none was sent."""
        sent = 0
        try:
            with self._connection() as connection:
                producer = self.app.amqp.Producer(connection, auto_declare=False)
                for task_id, source, item_id in requests:
                    kwargs = {} if source == CONTEXT_ITEMS.name else {"source": source}
                    self.app.send_task(
                        REQUEST_TASK, (item_id,), kwargs, task_id=task_id, queue=self.names.queue(REQUEST_LANE),
                        producer=producer, retry=False, headers=self._headers(),
                    )  # fmt: skip
                    sent += 1
        except DependencyUnavailable:
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
        except (*BROKER_ERRORS, BackendError) as exc:
            raise DependencyUnavailable(f"the result backend does not answer: {reason(exc)}") from exc

    def ping(self) -> None:
        """See `reindexer.ports.Broker.ping`. It makes round trips, because kombu takes any connection once made for
        alive. One of them writes: a Redis that has become a replica answers, but accepts nothing."""
        with self._connection(look=True):  # guard broker-write-probe
            pass
        self.depth(Lane.LIVE)

    def close(self) -> None:
        """Close this thread's connection."""
        own = self._locals.get()
        held, own.held = own.held, None
        if held is not None:
            held.release()

    def _headers(self) -> dict[str, str]:
        """The header that names this database: a message is worthless to another database's worker."""
        return {OWNER_HEADER: self._owner} if self._owner else {}

    @contextmanager
    def _connection(self, *, look: bool = False) -> Iterator[BrokerConnection]:
        own = self._locals.get()
        held = own.held
        try:
            if held is None:
                held = self.app.connection_for_write()
                own.held, own.looked_at = held, -inf
            held.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            self._require_prefix(held, own, now=look)
            yield held
        except (*BROKER_ERRORS, *_transport_errors(held)) as exc:
            own.held = None
            if held is not None:
                held.release()
            raise DependencyUnavailable(f"the broker does not answer: {reason(exc)}") from exc

    def _require_prefix(self, connection: BrokerConnection, own: _Local, *, now: bool) -> None:
        """Check at intervals that the prefix is still ours. A flushed broker has forgotten the holder; it is recorded
        again.

        Raises PrefixTaken.
        """
        if self._owner is None or (time.monotonic() - own.looked_at < LOOK_S and not now):
            return
        holder = hold(connection, self.names.database, self._owner)
        if holder != self._owner:  # guard broker-queue-ownership
            raise PrefixTaken(self.names.prefix, holder=holder, ours=self._owner)
        own.looked_at = time.monotonic()


def _transport_errors(held: BrokerConnection | None) -> tuple[type[Exception], ...]:
    if held is None:
        return ()
    return (*held.connection_errors, *held.channel_errors)
