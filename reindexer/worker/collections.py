"""Collections in the index: prepared before the first write to them, and filled again if they were lost."""

from __future__ import annotations

import time

import structlog

from reindexer.backfills.pager import rebuild_if_lost
from reindexer.core.errors import DependencyUnavailable, PermanentError, SourceError, TransientError
from reindexer.core.owner import Owner
from reindexer.core.source import Source
from reindexer.index.fenced import FencedIndex, IndexView
from reindexer.index.ownership import identity
from reindexer.ports import Collection
from reindexer.postgres.connect import Postgres
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.sources.embedder_record import record

log = structlog.get_logger(__name__)

TRUSTED_S = 30.0
"""For this long a collection that was seen to exist is assumed to exist still."""


class Collections:
    """The collections that this process has seen to exist. Safe to share between threads."""

    def __init__(self) -> None:
        self._trusted_until: dict[Collection, float] = {}
        self._datatypes: dict[Collection, tuple[float, str | None]] = {}
        """When to ask again, and how the collection keeps its numbers. None: it does not exist, or fails."""

    def prepare(
        self,
        postgres: Postgres,
        index: FencedIndex,
        source: Source,
        embedder: str,
        instance: str | None,
        *,
        server: str | None = None,
        anew: bool,
    ) -> None:
        """Prepare the collection in Qdrant, and rebuild the source if the collection was lost.

        `anew`: ask Qdrant again before paying for vectors, because it failed or refused when last asked, or because the
        source has no embedder on record yet. In the latter case the embedder is recorded, and `server`,
        the address of its provider.
        """
        now, collection = time.monotonic(), index.collection
        if not anew and self._trusted_until.get(collection, 0.0) > now:
            return
        with postgres.connection() as connection:
            owner = Owner(identity(connection, instance), embedder)
            columns = payload_columns(connection, source)
        try:
            collection_id = index.prepare(owner, columns)
            if anew:  # guard refusal-qdrant-before-embed
                index.touch()
        except DependencyUnavailable:
            raise
        except (TransientError, PermanentError) as exc:
            raise SourceError(str(exc)) from exc  # no item is to blame, and nothing was written
        with postgres.connection() as connection:
            if collection.embedder is None:
                record(connection, collection.source, collection.generation, embedder, server)
            # guard lost-collection-rebuild
            if rebuild_if_lost(connection, collection.source, collection.generation, collection_id):
                log.error("collection_lost", source=collection.source, collection=collection.name)
        self._trusted_until[collection] = now + TRUSTED_S

    def datatype(self, view: IndexView) -> str | None:
        """How the collection keeps the numbers of its vectors. None: it does not exist, or failed of late. Raises as
        the index does."""
        now = time.monotonic()
        until, datatype = self._datatypes.get(view.collection, (0.0, None))
        if until > now:
            return datatype
        datatype = view.datatype()
        self._datatypes[view.collection] = now + TRUSTED_S, datatype
        return datatype

    def avoid(self, collection: Collection) -> None:
        """Ask the collection for no vectors for a while."""
        self._datatypes[collection] = time.monotonic() + TRUSTED_S, None

    def forget(self, collection: Collection) -> None:
        """The collection may no longer exist."""
        self._trusted_until.pop(collection, None)
