"""Status: the state of everything."""

from __future__ import annotations

from reindexer.monitoring.status import Status
from reindexer.monitoring.status import status as state_of_everything

from ..auth import keyed_router
from ..dependencies import PostgresPart
from ..problems import KEYED, documented

router = keyed_router(prefix="/admin", tags=["status"])


@router.get(
    "/status",
    summary="The state of everything",
    responses=documented(KEYED, has_input=False),
)
def status(postgres: PostgresPart) -> Status:
    """As `reindexer status --json`. Idle means that outbox, pending, processing and healing are all 0."""
    with postgres.connection() as connection:
        return state_of_everything(connection)
