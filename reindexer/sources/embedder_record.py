"""The record of which embedder makes a source's vectors. Vectors of two models never mix in a write or a search.

The embedder is recorded in Postgres once, after a worker first prepared the collection, and noted beside the collection
itself. Every claim and every search reads the record and works by it (`reindexer.embedder_choice`). A process that
can't make that embedder refuses before it does anything. The record outlives a lost collection; `detach` deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from reindexer.core.errors import NotThisProcess, OtherVectors
from reindexer.core.owner import Owner
from reindexer.core.profile import Profile, other_vectors
from reindexer.core.source import Source
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.ports import Collection, Embedder, Index
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.embedding_specs import embedding_spec_of


def record(connection: Connection, source: str, generation: int, embedder: str, server: str | None = None) -> None:
    """Record the embedder of a generation's vectors, and the address of its provider.

    Raises OtherEmbedder if a different embedder was recorded first, NotThisProcess if another address was: the next
    claim compares.
    """
    parameters = {"name": source, "generation": generation, "embedder": embedder, "server": server}
    recorded, servers = connection.execute(load("sources.sql")["record_embedder"], parameters).fetchone() or (None, [])
    require_same(source, recorded, embedder)
    if server and servers and server not in servers:  # guard server-first-recorded
        raise NotThisProcess(
            f"generation {generation} of {source!r} is being made at {', '.join(servers)}; this process asks {server}, "
            "which has not shown yet that it makes the same vectors"
        )


def require_same(source: str, recorded: str | None, embedder: str) -> None:
    """Raises OtherEmbedder if a different embedder made the source's vectors."""
    Owner(None, embedder).require_same_embedder(source, Owner(None, recorded))


def require_same_vectors(connection: Connection, source: Source) -> None:
    """Raises OtherVectors if a new definition of a source would make vectors that differ from the existing ones."""
    row = connection.execute(load("sources.sql")["vectors"], {"name": source.name}).fetchone()
    if row is None or row[0] is None:
        return
    embedder, profile = row[0], Profile.from_json(row[1] or {})
    if wrong := other_vectors(profile, source.profile, embedder):
        raise OtherVectors(
            f"source {source.name!r}: its points are made by {embedder} and compared by {profile.distance}; the "
            f"profile says {wrong}: `reindexer rebuild {source.name}` fills a generation by it, docs/generations.md",
            key="profile",
        )


def recorded_embedding_spec(connection: Connection, source: Source, embedder: Embedder) -> EmbeddingSpec:
    """Return how the source's texts become points.

    Raises OtherEmbedder if the record names a different embedder, SourceError if the source's chunker can't be used.
    """
    require_same(source.name, made_by(connection, source), embedder.fingerprint)
    return embedding_spec_of(source, embedder)


def made_by(connection: Connection, source: Source) -> str | None:
    """Return the recorded embedder of the source's generation. None: not recorded yet."""
    parameters = {"name": source.name, "generation": source.generation}
    row = connection.execute(load("sources.sql")["embedder"], parameters).fetchone()
    return row[0] if row else None


def recorded(connection: Connection) -> Mapping[str, str | None]:
    """Return the recorded embedder of each source, by the source's name."""
    return dict(connection.execute(load("sources.sql")["embedders"]).fetchall())


def require_comparable(index: Index, collection: Collection, embedder: Embedder) -> None:
    """Raises OtherEmbedder if a different embedder made the collection's vectors. Asks Qdrant if there is no record."""
    require_same(collection.source, vectors_made_by(index, collection), embedder.fingerprint)


def vectors_made_by(index: Index, collection: Collection) -> str | None:
    """Return the embedder of a collection's vectors. Asks Qdrant if there is no record. None: neither knows it."""
    return collection.embedder or index.owner(collection).embedder
