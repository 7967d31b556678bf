"""Sources for which the provider refuses everything. Of many claims that come together only one asks the provider."""

from __future__ import annotations

import time

from reindexer.core.errors import RefusesAll

REFUSED_S = 2.0
"""For this long the provider is assumed to refuse still. Items wait longer for their next attempt, so each attempt
begins with a request."""


class Refusals:
    """The refusals that one process received, by source. Safe to share between threads."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, RefusesAll]] = {}

    def note(self, source: str, error: RefusesAll) -> None:
        """Record that the provider refuses everything of this source."""
        self._told[source] = (time.monotonic(), error)

    def last(self, source: str) -> RefusesAll | None:
        """Return a refusal of the last `REFUSED_S` seconds. None: the provider is to be asked."""
        told_at, error = self._told.get(source, (0.0, None))
        return error if time.monotonic() - told_at < REFUSED_S else None
