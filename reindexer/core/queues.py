"""What everything in the broker is called: one prefix for queues and keys, so that no other program's are touched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reindexer.core.items import LANES

DEFAULT_PREFIX = "reindexer"
PREFIX_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""Fit for names in Redis and RabbitMQ alike, and for `-Q`, which parts queues by commas."""

OLD_QUEUES = ("live", "bulk")
"""Of versions before there was a prefix."""

CELERY_QUEUE = "celery"
"""Where a Celery application's task goes for which it names no queue."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names under one prefix."""

    prefix: str = DEFAULT_PREFIX

    def queue(self, lane: str) -> str:
        """The queue of a lane."""
        return f"{self.prefix}.{lane}"

    def queues(self) -> list[str]:
        """Those of all lanes."""
        return [self.queue(lane) for lane in LANES]

    def beat_queue(self, node: str) -> str:
        """The queue of one worker's own beats."""
        return f"{self.prefix}.beat.{node}"

    @property
    def database(self) -> str:
        """Where the broker notes which database uses the prefix."""
        return f"{self.prefix}.database"

    @property
    def results(self) -> str:
        """What the keys of results begin with."""
        return f"{self.prefix}."

    @property
    def budget(self) -> str:
        """What the keys of budgets begin with."""
        return f"{self.prefix}:budget:"
