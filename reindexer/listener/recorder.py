"""The recorder: the leading listener writes a row a minute of what the page draws.

It has a thread of its own, and a connection for the moment, so that no drain waits while it counts a long backlog.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from reindexer.listener.background import Background
from reindexer.monitoring import history
from reindexer.postgres.connect import Connection, one_line

log = structlog.get_logger(__name__)

AFTER_S = 1.0
"""How long after a minute's beginning it is written."""
FORGET_EACH = 60
"""Minutes between two looks for what is too old."""
AGAIN_S = 60.0


class Recorder(Background):
    """Records each minute."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        super().__init__("recorder", AGAIN_S)
        self._connect = connect
        self._recorded = 0

    def step(self) -> float:
        """Record this minute. Returns the seconds until the next one is to be recorded."""
        with self._connect() as connection:
            history.record(connection)  # guard history-recorded
            if self._recorded % FORGET_EACH == 0:
                history.forget(connection)
            self._recorded += 1
            return AFTER_S + history.until_next_minute_s(connection)

    def tell(self, error: Exception) -> None:
        """Log it."""
        log.warning("history_not_recorded", error=one_line(error))
