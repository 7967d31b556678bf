"""A worker's heartbeat: a message that it sends itself through the broker, takes from its queue, and runs in its pool.

So a beat proves consumption. A ping would not: it is answered by the main process, whose pool may hang, or which may
have reconnected to the broker and consume nothing.
"""

from __future__ import annotations

import threading

import structlog
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

BEAT_TASK = "reindexer.tasks.beat_task"


def beat_queue(node: str) -> Queue:
    """The queue of one worker's own beats; RabbitMQ deletes it some time after the worker has gone."""
    name = f"beat.{node}"
    return Queue(name, Exchange(name), routing_key=name, expires=300)


MAX_WAITING = 2
"""Beats in the queue beyond which none is sent: a worker that hangs for a week must not fill the broker."""


class Beats:
    """Sends a beat every `every_s` from a thread of the worker's main process."""

    def __init__(self, app: Celery, node: str, every_s: float) -> None:
        self._app = app
        self._queue = beat_queue(node)
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)

    def start(self) -> None:
        """The first beat leaves at once."""
        self._thread.start()

    def stop(self) -> None:
        """No further beat."""
        self._stop.set()

    def _send(self) -> None:
        with self._app.producer_or_acquire() as producer:
            # Declared again as the worker itself declares it: that changes nothing, and tells how many wait.
            if self._queue(producer.channel).queue_declare().message_count < MAX_WAITING:
                self._app.send_task(
                    BEAT_TASK, queue=self._queue, expires=self._every_s, retry=False, ignore_result=True,
                    producer=producer,
                )  # fmt: skip

    def _run(self) -> None:
        away = False
        while True:
            try:
                self._send()
                away = False
            except (OperationalError, KombuError, RedisError, OSError) as exc:
                if not away:
                    log.warning("beat_not_sent", error=type(exc).__name__)
                away = True
            if self._stop.wait(self._every_s):
                return
