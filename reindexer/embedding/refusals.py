"""Refusals: sources for which the provider refuses everything. Of many claims that come together one asks it."""

from __future__ import annotations

import time

from reindexer.core.errors import RefusesAll

REFUSED_S = 2.0
"""So long it is taken to refuse still. Items wait longer for another try, so each of these begins with a request."""


class Refusals:
    """What one process was told, by source. Safe to share between threads."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, RefusesAll]] = {}

    def note(self, source: str, error: RefusesAll) -> None:
        """The provider refuses everything."""
        self._told[source] = (time.monotonic(), error)

    def last(self, source: str) -> RefusesAll | None:
        """What it was told just now; None: it is to be asked."""
        told_at, error = self._told.get(source, (0.0, None))
        return error if time.monotonic() - told_at < REFUSED_S else None
