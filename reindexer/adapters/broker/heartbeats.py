"""A worker's heartbeat: a message that it sends itself through the broker, takes from its queue, and runs in its pool.

A heartbeat therefore proves consumption. A ping would not: the main process answers it, but its pool may hang, or it
may have reconnected to the broker and consume nothing.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import structlog
from celery import Celery
from kombu import Connection as BrokerConnection
from kombu import Exchange, Queue

from reindexer.adapters.broker.errors import BROKER_ERRORS, reason
from reindexer.core.queues import Names

log = structlog.get_logger(__name__)

BEAT_TASK = "reindexer.tasks.heartbeat_task"


def heartbeat_queue(names: Names, node: str) -> Queue:
    """The queue of one worker's heartbeats. RabbitMQ deletes it some time after the worker has gone."""
    name = names.heartbeat_queue(node)
    return Queue(name, Exchange(name), routing_key=name, expires=300)


MAX_WAITING = 2
"""With this many heartbeats in the queue none is sent: a worker that hangs for a week must not fill the broker."""


class Heartbeats:
    """Sends a heartbeat every `every_s` seconds from a thread of the worker's main process."""

    def __init__(self, app: Celery, queue: Queue, every_s: float) -> None:
        self._app = app
        self._queue = queue
        self._every_s = every_s
        self._stop = threading.Event()
        self._connection: BrokerConnection | None = None
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)

    def start(self) -> None:
        """Start the thread. It sends the first heartbeat at once."""
        self._thread.start()

    def stop(self) -> None:
        """Send no further heartbeat."""
        self._stop.set()

    def _send(self) -> None:
        self._connection = self._connection or self._app.connection_for_write()
        self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
        # Declared as the worker itself declares it: that changes nothing, and returns the number of waiting messages.
        if self._queue(self._connection.default_channel).queue_declare().message_count < MAX_WAITING:
            producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            self._app.send_task(
                BEAT_TASK, queue=self._queue, expires=self._every_s, retry=False, ignore_result=True,
                producer=producer,
            )  # fmt: skip

    def _leave(self) -> None:
        """Drop a connection that failed: its server may not be the broker any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*BROKER_ERRORS):
                connection.release()

    def _run(self) -> None:
        away = False
        while True:
            try:
                self._send()
                away = False
            except BROKER_ERRORS as exc:
                self._leave()
                if not away:
                    log.warning("heartbeat_send_failed", error=reason(exc))
                away = True
            if self._stop.wait(self._every_s):
                self._leave()
                return
