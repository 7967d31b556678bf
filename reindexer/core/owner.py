"""Ownership of a collection: noted beside it in the index, so that no other database and no other model writes to
it."""

from __future__ import annotations

from dataclasses import dataclass

from reindexer.core.errors import OtherEmbedder, SourceError


@dataclass(frozen=True, slots=True)
class Owner:
    """The database that a collection follows, and its writers' embedder."""

    instance: str | None
    """Identity of the database, which differs in a copy. None: unknown, and nothing is checked."""
    embedder: str | None = None
    """The embedder's fingerprint. None: unknown."""

    def require_ours(self, collection: str, found: Owner) -> None:
        """Raises SourceError if a collection belongs to a different database."""
        if self.instance and found.instance and found.instance != self.instance:
            raise SourceError(
                f"the collection {collection!r} belongs to another database ({found.instance}; this is "
                f"{self.instance}): if this is a copy, give it another QDRANT_URL; if it has taken that one's place, "
                "run `reindexer adopt`"
            )

    def require_same_embedder(self, source: str, found: Owner) -> None:
        """Raises OtherEmbedder if a different model made a source's points, because their vectors have another
        meaning."""
        if self.embedder and found.embedder and found.embedder != self.embedder:
            raise OtherEmbedder(
                f"the points of {source!r} are made by {found.embedder}, this process makes {self.embedder}: give it "
                "the embedder, model and dimensions of the others; to change them for all, `reindexer rebuild "
                f"{source}` (docs/generations.md)"
            )
