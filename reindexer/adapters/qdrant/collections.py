"""Collections as `QdrantIndex` needs them: creates and checks them, with their payload indexes and alias."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
from pydantic import ValidationError
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from reindexer.adapters.qdrant.filters import index_of, key_of
from reindexer.adapters.qdrant.parameters import HIDING, OF_VECTORS, hides_points
from reindexer.adapters.qdrant.points import FACTS, KEYWORDS
from reindexer.core.errors import KeywordsMissing, SourceError, UnfitRequest
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.core.profile import Distance
from reindexer.core.wording import refusal
from reindexer.ports import Collection, Inspected

_INDEXED: dict[str, Any] = {
    f"{FACTS}.item_id": models.PayloadSchemaType.KEYWORD,
    f"{FACTS}.source": models.PayloadSchemaType.KEYWORD,
    f"{FACTS}.chunk": models.PayloadSchemaType.INTEGER,
    f"{FACTS}.version": models.PayloadSchemaType.INTEGER,
    # Only for a server in strict mode, which refuses filters without an index; every use is narrowed by ids anyway.
    f"{FACTS}.fingerprint": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, on_disk=True),
}
_DISTANCES: dict[Distance, models.Distance] = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclid": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
_INSTANCE, _EMBEDDER, _COLLECTION_ID = "reindexer_instance", "reindexer_embedder", "reindexer_collection_id"
"""Keys of a collection's metadata."""


def prepare(
    client: QdrantClient, collection: Collection, dimensions: int, owner: Owner, columns: Sequence[PayloadColumn]
) -> str | None:
    """See `reindexer.ports.Index.prepare`. Repeats every step, because another process may have stopped half-way."""
    names = {each.name for each in client.get_collections().collections}
    if collection.alias in names:
        found = _dimensions(client.get_collection(collection.alias))
        raise SourceError(
            f"Qdrant already has a collection {collection.alias!r} of {found} dimensions that is not ours; the "
            f"embedder makes {dimensions}; rename it, or give the source another alias"
        )
    if hides_points(collection.profile.collection):  # guard profile-hidden-points-refusal
        raise SourceError(
            f"source {collection.source!r}: its profile's collection.optimizers_config.prevent_unoptimized {HIDING}; "
            "leave it out"
        )
    if collection.name not in names:
        _require_conditional_writes(client)
        _create(client, collection, dimensions, owner)
    info = client.get_collection(collection.name)
    noted = owner_of(info)
    owner.require_ours(collection.name, noted)  # guard instance-database-copy-refusal
    # guard embedder-noted-fingerprint
    owner.require_same_embedder(collection.source, noted)  # whose vectors may have another length as well
    require_dimensions(info, collection.name, dimensions)
    _require_distance(info, collection)
    _require_found(info, collection)
    if collection.keywords and not holds_keywords(info):
        # guard keywords-added-in-place
        _add_keywords(client, collection)
    if noted != Owner(owner.instance or noted.instance, owner.embedder):
        note_owner(client, collection.name, owner)
    # Before there are points: Qdrant links points that share a value while it builds the graph, and not afterwards.
    indexes = _indexes(columns)
    # An existing index of another type was made by somebody on purpose (full text, say). A field has only one index:
    # to replace it would take theirs away, and searches with a filter would be slow until the new one is built.
    for field in indexes.keys() - info.payload_schema.keys():
        # With many points this may take minutes, which would look as if Qdrant were away. So the call does not wait.
        # Until the index exists, later preparations repeat the call, which changes nothing.
        client.create_payload_index(collection.name, field, indexes[field], wait=not info.points_count)
    if collection.is_active:  # guard alias-active-only
        _point_alias(client, collection)
    collection_id = (info.config.metadata or {}).get(_COLLECTION_ID)
    return str(collection_id) if collection_id else None


def _indexes(columns: Sequence[PayloadColumn]) -> dict[str, Any]:
    """The indexes that a collection should have, by field."""
    return _INDEXED | {key_of(column.path): index_of(column) for column in columns if column.indexed}


def inspect(client: QdrantClient, collection: Collection, columns: Sequence[PayloadColumn]) -> Inspected:
    """Look at a collection, its alias and its payload indexes. Changes nothing."""
    aliases = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
    named = aliases.get(collection.alias)
    if collection.name not in {each.name for each in client.get_collections().collections}:
        return Inspected(False, named)
    there = client.get_collection(collection.name).payload_schema
    return Inspected(True, named, tuple(sorted(_indexes(columns).keys() - there.keys())))


def require_dimensions(info: models.CollectionInfo, name: str, dimensions: int) -> None:
    """Raises SourceError if the collection's vectors have other dimensions."""
    if (found := _dimensions(info)) is None:
        raise SourceError(
            f"Qdrant collection {name!r} holds named vectors, and ours have none; it is not ours: name another alias, "
            "or delete the collection"
        )
    if found != dimensions:
        raise SourceError(
            f"Qdrant collection {name!r} holds vectors of {found} dimensions, the embedder makes {dimensions}; "
            f"set REINDEXER_EMBEDDING_DIMENSIONS={found}, or delete the collection"
        )


def datatype_of(info: models.CollectionInfo) -> str:
    """How the collection keeps the numbers of its vectors."""
    vectors = info.config.params.vectors
    found = vectors.datatype if isinstance(vectors, models.VectorParams) else None
    return found.value if found else models.Datatype.FLOAT32.value


def owner_of(info: models.CollectionInfo) -> Owner:
    """The recorded owner of a collection."""
    metadata = info.config.metadata or {}
    instance, embedder = metadata.get(_INSTANCE), metadata.get(_EMBEDDER)
    return Owner(str(instance) if instance else None, str(embedder) if embedder else None)


def note_owner(client: QdrantClient, name: str, owner: Owner) -> None:
    """Record the collection's owner; unknown parts of `owner` leave the recorded ones as they are."""
    if metadata := _metadata(owner):
        client.update_collection(name, metadata=metadata)


def _metadata(owner: Owner) -> dict[str, str]:
    return {key: value for key, value in ((_INSTANCE, owner.instance), (_EMBEDDER, owner.embedder)) if value}


def _create(client: QdrantClient, collection: Collection, dimensions: int, owner: Owner) -> None:
    """Create the collection, unless another process just did. Raises SourceError if its parameters are refused."""
    parameters = dict(collection.profile.collection)
    of_vectors = {name: parameters.pop(name) for name in OF_VECTORS if name in parameters}
    try:
        vectors = models.VectorParams(size=dimensions, distance=_DISTANCES[collection.profile.distance], **of_vectors)
        others = models.CreateCollection(**parameters)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"source {collection.source!r}: its profile's collection.{where}: {refusal(first)}") from exc
    try:
        client.create_collection(
            collection.name,
            vectors_config=vectors,
            sparse_vectors_config={KEYWORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)}
            if collection.keywords
            else None,
            metadata=_metadata(owner) | {_COLLECTION_ID: str(uuid.uuid4())},  # guard lost-collection-unique-id
            **{name: getattr(others, name) for name in parameters},
        )
    except UnexpectedResponse as exc:
        if exc.status_code != 409:
            raise
    except grpc.RpcError as exc:
        if exc.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise


def _add_keywords(client: QdrantClient, collection: Collection) -> None:
    """Let the points of a collection have keywords. Raises SourceError for an older server."""
    version = client.info().version
    if _numbers(version) < (1, 18):
        raise SourceError(
            f"Qdrant is {version}; keywords can be added to a collection from 1.18 on; `reindexer rebuild "
            f"{collection.source}` fills one that has them, and takes its vectors along"
        )
    of_keywords = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))
    try:
        client.create_vector_name(collection.name, KEYWORDS, of_keywords)
    except (UnexpectedResponse, grpc.RpcError):
        if not holds_keywords(client.get_collection(collection.name)):  # else another process just did
            raise


def require_keywords(info: models.CollectionInfo, collection: Collection) -> None:
    """Raises KeywordsMissing if points can't have keywords yet."""
    if not holds_keywords(info):
        raise KeywordsMissing(
            f"source {collection.source!r}: its collection holds no keywords yet; a worker adds them when it next "
            "works on the source"
        )


def holds_keywords(info: models.CollectionInfo) -> bool:
    """Whether points can have keywords."""
    return KEYWORDS in (info.config.params.sparse_vectors or {})


def _require_distance(info: models.CollectionInfo, collection: Collection) -> None:
    vectors = info.config.params.vectors
    wanted = _DISTANCES[collection.profile.distance]
    if isinstance(vectors, models.VectorParams) and vectors.distance != wanted:
        raise SourceError(
            f"Qdrant collection {collection.name!r} compares by {vectors.distance.value}, the source's profile says "
            f"{wanted.value}; set that distance, or delete the collection"
        )


def _require_found(info: models.CollectionInfo, collection: Collection) -> None:
    """Raises SourceError if somebody changed the collection so that it hides points."""
    if info.config.optimizer_config.prevent_unoptimized:
        raise SourceError(
            f"Qdrant collection {collection.name!r} has optimizers_config.prevent_unoptimized, which {HIDING}; PATCH "
            f"/collections/{collection.name} with false for it takes it away"
        )


def _require_conditional_writes(client: QdrantClient) -> None:
    """Raises SourceError for an older server, which would silently ignore the fence of every write."""
    version = client.info().version
    if _numbers(version) < (1, 16):
        raise SourceError(f"Qdrant is {version}; writes can be fenced from 1.16 on")


def require_corpus(client: QdrantClient) -> None:
    """Raises UnfitRequest for an older server, which counts how rare a word is among all points."""
    version = client.info().version
    if _numbers(version) < (1, 19):  # guard keywords-corpus-server
        raise UnfitRequest(
            f"Qdrant is {version}; from 1.19 on it counts how rare a word is among the rows of a key alone: search in "
            "mode meaning by this key"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _point_alias(client: QdrantClient, collection: Collection) -> None:
    """Make the alias if there is none. Of two workers one may not know yet of a promotion, so neither moves it."""
    if _named_by_alias(client, collection) is None:
        client.update_collection_aliases([_creating(collection)])


def follow_alias(client: QdrantClient, collection: Collection) -> bool:
    """See `reindexer.ports.Index.follow_alias`."""
    target = _named_by_alias(client, collection)
    if target == collection.name or not client.collection_exists(collection.name):
        return False
    delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=collection.alias))
    # guard alias-one-step
    client.update_collection_aliases([*([] if target is None else [delete]), _creating(collection)])
    return target is not None


def _creating(collection: Collection) -> models.CreateAliasOperation:
    create = models.CreateAlias(collection_name=collection.name, alias_name=collection.alias)
    return models.CreateAliasOperation(create_alias=create)


def _named_by_alias(client: QdrantClient, collection: Collection) -> str | None:
    """Return the collection that the alias names. Raises SourceError if that is not one of the source."""
    aliases = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
    target = aliases.get(collection.alias)
    if target is not None and not re.fullmatch(re.escape(collection.alias) + r"__g\d+", target):
        raise SourceError(
            f"Qdrant's alias {collection.alias!r} names the collection {target!r}, which is not ours; "
            "give the source another alias"
        )
    return target


def _dimensions(info: models.CollectionInfo) -> int | None:
    """None for a collection of named vectors."""
    vectors = info.config.params.vectors
    return vectors.size if isinstance(vectors, models.VectorParams) else None
