"""Names in the broker: one prefix for queues and keys, so that no other program's are touched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reindexer.core.lanes import LANES, Lane

DEFAULT_PREFIX = "reindexer"
PREFIX_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""Valid in names of both Redis and RabbitMQ, and in `-Q`, which separates queues by commas."""

OLD_QUEUES = ("live", "bulk")
"""Queues of versions before there was a prefix."""

CELERY_QUEUE = "celery"
"""The queue of a Celery application's tasks that name no queue."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names under one prefix."""

    prefix: str = DEFAULT_PREFIX

    def queue(self, lane: Lane) -> str:
        """Return the queue of a lane."""
        return f"{self.prefix}.{lane}"

    def queues(self) -> list[str]:
        """Return the queues of all lanes."""
        return [self.queue(lane) for lane in LANES]

    def heartbeat_queue(self, node: str) -> str:
        """Return the queue of one worker's own heartbeats."""
        return f"{self.prefix}.beat.{node}"

    @property
    def database(self) -> str:
        """The key under which the broker notes which database uses the prefix."""
        return f"{self.prefix}.database"

    @property
    def results(self) -> str:
        """Prefix of the keys of results."""
        return f"{self.prefix}."

    @property
    def rate_limiter(self) -> str:
        """Prefix of the keys of rate limiters."""
        return f"{self.prefix}:budget:"
