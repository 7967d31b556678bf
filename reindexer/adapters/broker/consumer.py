"""The worker's side of the broker: no answer of a broker ends a worker, and it asks of it nothing that some refuse.

Celery comes back by itself from a lost connection, and ends for good where a broker answers with an error. While a
Redis fails over it answers READONLY, MASTERDOWN, MOVED, CLUSTERDOWN, UNBLOCKED or LOADING; one that is full MISCONF or
OOM; a RabbitMQ that a queue's node is down. All of them pass. So each is a lost connection here: it is made anew,
which also looks the server's name up again, after a pause that grows while that does not help.
"""

from __future__ import annotations

import time
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from celery.worker.state import maybe_shutdown
from redis.exceptions import RedisError

PAUSE_S = 0.5
MAX_PAUSE_S = 4.0
SERVED_S = 10.0
"""A connection that served for so long was a good one: the next pause is a short one again."""


def _counts_for_all_queues(_: Consumer) -> bool:
    """What a worker takes ahead is counted for each queue: quorum queues refuse a count for all of them together, and
    where they are a RabbitMQ's default, nobody says so before a consumer starts."""
    return False


class LastingConsumer(Consumer):  # type: ignore[misc]
    """Celery's, for `worker_consumer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for step in self.steps:
            if isinstance(step, Tasks):
                step.qos_global = _counts_for_all_queues
        self.connection_errors: tuple[type[Exception], ...] = (
            *self.connection_errors,
            *self.channel_errors,  # guard broker-error-survival
            RedisError,
        )
        self._pause_s = 0.0
        self._since = time.monotonic()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """See `Consumer`; then rest."""
        super().on_connection_error_before_connected(exc)
        self._rest()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """See `Consumer`; then rest."""
        super().on_connection_error_after_connected(exc)
        self._rest()

    def _rest(self) -> None:
        """Where connecting works and is no cure, Celery would try it again at once."""
        served = time.monotonic() - self._since > SERVED_S
        self._pause_s = PAUSE_S if served else min(MAX_PAUSE_S, max(PAUSE_S, 2 * self._pause_s))
        until = time.monotonic() + self._pause_s
        while time.monotonic() < until:  # guard broker-error-backoff
            maybe_shutdown()
            time.sleep(0.1)
        self._since = time.monotonic()
