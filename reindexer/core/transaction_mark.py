"""The mark of a transaction, as the modules for frameworks hand it out; and the SQL that takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

WROTE = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL AND to_regnamespace('reindexer') IS NOT NULL"
"""Whether there is something to wait for: the transaction wrote, and this program is installed here."""

TAKE = "SELECT reindexer.mark(%s)"
"""The token, for a traceparent or NULL."""


@dataclass(slots=True)
class Mark:
    """The mark of one transaction."""

    token: str | None = None
    """What can be waited for. None until the transaction is committed, and after that if it was rolled back, wrote
    nothing, or the database has no schema `reindexer`."""
    _listeners: list[Callable[[str], None]] = field(default_factory=list, repr=False)

    def hand_out(self, token: str) -> None:
        """The transaction was committed."""
        self.token = token
        for listener in self._listeners:
            listener(token)

    def on_token(self, listener: Callable[[str], None]) -> None:
        """Call the listener with the token once it is there."""
        self._listeners.append(listener)
