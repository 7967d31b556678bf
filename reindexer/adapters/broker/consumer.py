"""The worker's side of the broker: no answer of a broker ends a worker, and no request of it is one that some refuse.

Celery recovers by itself from a lost connection, and ends for good if a broker answers with an error. A Redis that
fails over answers READONLY, MASTERDOWN, MOVED, CLUSTERDOWN, UNBLOCKED or LOADING; a full one MISCONF or OOM; a RabbitMQ
answers that a queue's node is down. All of these pass. So each counts as a lost connection here. The worker reconnects,
which also resolves the server's name again, after a pause that grows while that does not help.
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
"""A connection that lasted this long was a good one: the next pause is a short one again."""


def _counts_for_all_queues(_: Consumer) -> bool:
    """Prefetch is counted per queue: quorum queues refuse one count for all of a channel's consumers, and where they
    are a RabbitMQ's default, nothing shows it before a consumer starts."""
    return False


class LastingConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer, for `worker_consumer`."""

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
        """See `Consumer`; then pauses."""
        super().on_connection_error_before_connected(exc)
        self._rest()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """See `Consumer`; then pauses."""
        super().on_connection_error_after_connected(exc)
        self._rest()

    def _rest(self) -> None:
        """Pause. Where connecting works but does not help, Celery would reconnect at once."""
        served = time.monotonic() - self._since > SERVED_S
        self._pause_s = PAUSE_S if served else min(MAX_PAUSE_S, max(PAUSE_S, 2 * self._pause_s))
        until = time.monotonic() + self._pause_s
        while time.monotonic() < until:  # guard broker-error-backoff
            maybe_shutdown()
            time.sleep(0.1)
        self._since = time.monotonic()
