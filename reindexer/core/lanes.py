"""Lanes: the two queues of due items, in the order of their priority."""

from __future__ import annotations

from enum import StrEnum


class Lane(StrEnum):
    """Its value is the lane's name in the database, in the broker's queues and in commands."""

    LIVE = "live"
    """Edits."""
    BULK = "bulk"
    """Whatever edits overtake."""


LANES = tuple(Lane)
"""By priority, the highest first."""

REQUEST_LANE = Lane.BULK
"""The lane of reindex requests."""
