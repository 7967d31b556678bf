"""Events: who is told of them, and what waits for whom."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel

from reindexer.core.urls import without_secrets
from reindexer.events.receivers import Receiver, all_receivers

from ..auth import keyed_router
from ..dependencies import PostgresPart
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["status"])


class Receivers(BaseModel):
    """All receivers by name. Of a webhook's URL only its beginning is told: the rest may hold a key."""

    receivers: list[Receiver]


@router.get("/events", summary="Who is told of events, and what waits", responses=documented(KEYED))
def every(postgres: PostgresPart) -> Receivers:
    """As `reindexer events list --json`."""
    with postgres.connection() as connection:
        found = all_receivers(connection)
    return Receivers(receivers=[replace(each, url=without_secrets(each.url) if each.url else None) for each in found])
