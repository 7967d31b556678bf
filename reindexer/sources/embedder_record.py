"""Vectors: whose a source's are. Those of two models never meet, in no write and no search.

Who makes them is recorded in Postgres once, when a worker has first prepared the collection, and noted beside the
collection itself. Every claim and every search reads the record, so that a process with other settings refuses before
it does anything. The record outlives a collection that is lost; `detach` forgets it.
"""

from __future__ import annotations

from collections.abc import Mapping

from reindexer.core.errors import DefinitionError
from reindexer.core.owner import Owner
from reindexer.core.profile import Profile, other_vectors
from reindexer.core.source import Source
from reindexer.core.text.recipe import Recipe
from reindexer.ports import Collection, Embedder, Index
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.recipes import recipe_of


def record(connection: Connection, source: str, embedder: str) -> None:
    """Write down who makes a source's vectors. Raises OtherEmbedder if another one was quicker."""
    row = connection.execute(load("sources.sql")["record_embedder"], {"name": source, "embedder": embedder}).fetchone()
    require_same(source, row[0] if row else None, embedder)


def require_same(source: str, recorded: str | None, embedder: str) -> None:
    """Raises OtherEmbedder if the source's vectors are another one's."""
    Owner(None, embedder).require_same_embedder(source, Owner(None, recorded))


def require_same_vectors(connection: Connection, source: Source) -> None:
    """Raises DefinitionError if a new definition of a source would make other vectors than those that are there."""
    row = connection.execute(load("sources.sql")["vectors"], {"name": source.name}).fetchone()
    if row is None or row[0] is None:
        return
    embedder, profile = row[0], Profile.from_json(row[1] or {})
    if wrong := other_vectors(profile, source.profile, embedder):
        raise DefinitionError(
            f"source {source.name!r}: its points are made by {embedder} and compared by {profile.distance}, the "
            f"profile says {wrong}; to embed all rows anew, `reindexer detach {source.name} --drop-collection` first",
            key="profile",
        )


def recorded_recipe(connection: Connection, source: Source, embedder: Embedder) -> Recipe:
    """How the source's texts become points. Raises OtherEmbedder if its vectors are another one's, by the record."""
    row = connection.execute(load("sources.sql")["active"], {"name": source.name}).fetchone()
    require_same(source.name, row[1] if row else None, embedder.fingerprint)
    return recipe_of(source, embedder)


def recorded(connection: Connection) -> Mapping[str, str | None]:
    """Who makes each source's vectors, by its name."""
    return dict(connection.execute(load("sources.sql")["embedders"]).fetchall())


def require_comparable(index: Index, collection: Collection, embedder: Embedder) -> None:
    """Raises OtherEmbedder if the collection's vectors are another one's. Qdrant is asked where there is no record."""
    made_by = collection.embedder or index.owner(collection).embedder
    require_same(collection.source, made_by, embedder.fingerprint)
