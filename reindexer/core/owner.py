"""Who writes a collection: noted beside it in the index, so that a copy of the database does not write it too."""

from __future__ import annotations

from dataclasses import dataclass

from reindexer.core.errors import SourceError


@dataclass(frozen=True, slots=True)
class Owner:
    """The database that a collection follows, and the embedder that its writers have."""

    instance: str | None
    """What a copy of the database changes; None: not known, and nothing is checked."""
    embedder: str | None = None
    """Its fingerprint, for whoever compares; None: not known."""

    def require_ours(self, collection: str, found: Owner) -> None:
        """Raises SourceError if a collection belongs to another database than this one."""
        if self.instance and found.instance and found.instance != self.instance:
            raise SourceError(
                f"Qdrant's collection {collection!r} belongs to another database ({found.instance}; this is "
                f"{self.instance}): if this is a copy, give it another QDRANT_URL; if it has taken that one's place, "
                "run `reindexer adopt`"
            )
