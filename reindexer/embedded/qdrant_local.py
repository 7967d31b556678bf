"""qdrant-client's local mode, made fit to stand behind a server: quick, and tidy over days.

Owns all that we know about the inside of local mode; `qdrant_server` uses its public methods. Local mode is a faithful
but naive Qdrant: a filter calls Python for every point, a cosine search normalises the whole index again, every point
written is an fsync, deleted points keep their place, it stops for a second to grow. What can be mended from outside is
mended here. The figures are for 10,000 points of 1536 dimensions on 2 cores.

Limits: brute force over one process's memory (6 KB a point), not thread-safe, survives SIGKILL but may lose the last
writes at a power cut. Comfortable to 50,000 points or so; not for production.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from qdrant_client import models as m
from qdrant_client.common.validation import validate_batch_lengths
from qdrant_client.local import distances, local_collection
from qdrant_client.local.local_collection import LocalCollection
from qdrant_client.local.payload_value_extractor import value_by_key
from qdrant_client.local.qdrant_local import QdrantLocal

from reindexer.embedded.qdrant_filter import Array, Ids, Payload, filter_to_ids, payload_mask

UNIT_EPSILON = 1.1920929e-7
"""Below this norm Qdrant stores a cosine vector as it is."""
COMPACT_FROM = 1_000
GROW_BY = 4_096
"""Points for which room is made at once."""

OPERATIONS: dict[str, type[BaseModel]] = {
    "upsert": m.UpsertOperation,
    "delete": m.DeleteOperation,
    "set_payload": m.SetPayloadOperation,
    "overwrite_payload": m.OverwritePayloadOperation,
    "delete_payload": m.DeletePayloadOperation,
    "clear_payload": m.ClearPayloadOperation,
    "update_vectors": m.UpdateVectorsOperation,
    "delete_vectors": m.DeleteVectorsOperation,
}

_their_cosine_similarity = distances.cosine_similarity


class PayloadSchemas:
    """The payload indexes that were asked for, which local mode forgets; beside its data if that has a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder and folder / "payload_schema.json"
        self.fields: dict[str, dict[str, Any]] = {}
        if self._file and self._file.exists():
            self.fields = json.loads(self._file.read_text())

    def put(self, collection: str, fields: dict[str, Any]) -> None:
        self.fields.pop(collection, None)
        if fields:
            self.fields[collection] = fields
        if self._file:
            draft = self._file.with_suffix(".tmp")
            draft.write_text(json.dumps(self.fields))
            draft.replace(self._file)


def open_index(location: str) -> QdrantLocal:
    """Local mode over a folder or ":memory:". RuntimeError if another process holds the folder."""
    for about in ("Local mode", "Payload indexes have no effect"):
        warnings.filterwarnings("ignore", message=about)
    vars(distances)["cosine_similarity"] = _cosine_similarity
    vars(local_collection)["calculate_payload_mask"] = payload_mask
    LocalCollection._filter_to_ids = filter_to_ids  # type: ignore[method-assign, assignment]
    local = QdrantLocal(location, force_disable_check_same_thread=True)
    for collection in local.collections.values():
        tune(collection)
    return local


def tune(collection: LocalCollection) -> None:
    """To be called for each collection that was made or loaded."""
    if collection.storage is not None:
        # Local mode commits point by point: 900 points/s with an fsync each, 8,000 without.
        collection.storage.storage.execute("PRAGMA journal_mode = WAL")
        collection.storage.storage.execute("PRAGMA synchronous = NORMAL")
    collection.ids_inv = Ids(collection.ids_inv, collection.ids)
    for name, vectors in collection.vectors.items():
        # Loading leaves float64 where a point had been written as a list, and cosine vectors as they were sent.
        loaded = vectors.astype(np.float32)
        if collection.vectors_config[name].distance == m.Distance.COSINE:
            norms = np.linalg.norm(loaded, axis=1, keepdims=True)
            loaded /= np.where(norms > UNIT_EPSILON, norms, 1)
        collection.vectors[name] = loaded


def apply_operations(collection: LocalCollection, raw: Any) -> None:
    """What /points/batch takes: {kind: parameters} each. All are checked before the first is done."""
    if not isinstance(raw, list) or not all(isinstance(each, dict) and each.keys() & OPERATIONS.keys() for each in raw):
        raise ValueError("operations must be a list of known operations")
    operations: list[Any] = [OPERATIONS[next(kind for kind in OPERATIONS if kind in each)](**each) for each in raw]
    for operation in operations:
        match operation:
            case m.UpsertOperation():
                operation.upsert = _with_arrays(operation.upsert)
            case m.UpdateVectorsOperation():
                for point in operation.update_vectors.points:
                    point.vector = _arrays(point.vector)
    match operations:
        case [m.UpsertOperation(upsert=m.PointsList() as only)]:  # as a batch, every point would be checked twice
            _make_room(collection, len(only.points))
            collection.upsert(only.points, update_filter=only.update_filter, update_mode=only.update_mode)
        case _:
            collection.batch_update_points(operations)
    _compact(collection)


def array_query(collection: LocalCollection, body: m.QueryRequest | m.QueryGroupsRequest) -> Any:
    """The body's query, one dense vector as a float32 array: for a list, numpy would copy the index to float64.

    ValueError for wrong dimensions, in its prefetches too, where numpy's message would name shapes.
    """
    _check_dimensions(collection, body)
    query = body.query
    nearest = query.nearest if isinstance(query, m.NearestQuery) and query.mmr is None else query
    return m.NearestQuery.model_construct(nearest=np.array(nearest, np.float32)) if _is_floats(nearest) else query


def top_groups_filter(local: QdrantLocal, search: Mapping[str, Any], group_by: str, limit: int) -> m.Filter | None:
    """The search's filter, narrowed to its `limit` best groups where they are easily found.

    Local mode copies the payload of every point before it groups: 640 ms, with this 20.
    """
    before: m.Filter | None = search["query_filter"]
    take, total = 10 * limit, len(local.collections[search["collection_name"]].ids_inv)
    while 0 < take < total and not search["prefetch"] and isinstance(search["query"], m.NearestQuery):
        hits = local.query_points(**{**search, "with_payload": [group_by], "with_vectors": False}, limit=take).points
        groups = dict.fromkeys(value for hit in hits for value in _group_values(hit.payload or {}, group_by))
        if len(groups) >= limit and len({type(value) for value in groups}) == 1:
            best = m.FieldCondition(key=group_by, match=m.MatchAny(any=list(groups)[:limit]))
            return m.Filter(must=[best, before] if before else [best])
        take = 10 * take if len(hits) == take else total
    return before


def _make_room(collection: LocalCollection, points: int) -> None:
    """Local mode doubles its arrays, with three copies: 1.2 s at 33,000 points. In place it takes 10 ms, and often."""
    needed = len(collection.ids_inv) + points
    for name, vectors in collection.vectors.items():
        if len(vectors) < needed:
            own = vectors if vectors.flags.owndata else vectors.copy()
            own.resize((needed + GROW_BY, vectors.shape[1]), refcheck=False)  # this thread alone knows of it
            collection.vectors[name] = own


def _compact(collection: LocalCollection) -> None:
    """Free the places of deleted points once they outnumber the others.

    A point that comes back takes its old place, so it is ids that never return that would fill the memory.
    """
    keep = np.flatnonzero(np.logical_not(collection.deleted))
    if len(collection.ids_inv) - len(keep) < max(COMPACT_FROM, len(keep)):
        return
    kept = [collection.ids_inv[place] for place in keep]
    collection.ids = {point_id: place for place, point_id in enumerate(kept)}
    collection.ids_inv = Ids(kept, collection.ids)
    collection.payload = [collection.payload[place] for place in keep]
    collection.deleted = np.zeros(len(keep), dtype=bool)
    for arrays in (collection.deleted_per_vector, collection.vectors):
        arrays.update({name: array[keep] for name, array in arrays.items()})
    columns: Any
    for columns in (collection.sparse_vectors, collection.multivectors):
        columns.update({name: [column[place] for place in keep] for name, column in columns.items()})


def _with_arrays(upsert: m.PointsBatch | m.PointsList) -> m.PointsList:
    """Points with float32 arrays, which local mode takes three times as fast as lists and stores in half the room."""
    rows: Any = ((point.id, point.vector, point.payload) for point in getattr(upsert, "points", []))
    if isinstance(upsert, m.PointsBatch):
        validate_batch_lengths(upsert.batch)
        ids, vectors = upsert.batch.ids, upsert.batch.vectors
        columns: Any = vectors if isinstance(vectors, dict) else {"": vectors}
        named = [{name: column[row] for name, column in columns.items()} for row in range(len(ids))]
        rows = zip(ids, named, upsert.batch.payloads or [{}] * len(ids), strict=True)
    points = [m.PointStruct.model_construct(id=_id(i), vector=_arrays(v), payload=p) for i, v, p in rows]
    return m.PointsList.model_construct(
        points=points, update_filter=upsert.update_filter, update_mode=upsert.update_mode
    )


def _id(point_id: Any) -> Any:
    if isinstance(point_id, int) and not 0 <= point_id < 1 << 64:
        raise ValueError(f"value {point_id} is not a valid point ID")
    return point_id


def _arrays(vector: Any) -> dict[str, Any]:
    named = vector if isinstance(vector, dict) else {"": vector}
    if any(isinstance(part, m.Document | m.Image | m.InferenceObject) for part in named.values()):
        raise ValueError("InferenceService is not initialized")
    return {name: np.array(part, np.float32) if _is_floats(part) else part for name, part in named.items()}


def _group_values(payload: Payload, group_by: str) -> list[Any]:
    values = value_by_key(payload, group_by) or []
    return values if all(type(value) in (str, int) for value in values) else []


def _is_floats(vector: Any) -> bool:
    return isinstance(vector, list) and bool(vector) and isinstance(vector[0], float)


def _check_dimensions(collection: LocalCollection, node: Any) -> None:
    params = collection.vectors_config.get(node.using or "")
    vector = getattr(node.query, "nearest", node.query)
    if params is not None and _is_floats(vector) and len(vector) != params.size:
        raise ValueError(f"Vector dimension error: expected dim: {params.size}, got {len(vector)}")
    for prefetch in node.prefetch if isinstance(node.prefetch, list) else [node.prefetch]:
        if prefetch is not None:
            _check_dimensions(collection, prefetch)


def _cosine_similarity(query: Array, vectors: Array) -> Array:
    """Replaces local mode's, which divides all stored vectors by their norms at every search: 5 ms, not 42.

    They are unit vectors: local mode writes them so, `tune` loads them so.
    """
    if query.ndim > 1:
        return _their_cosine_similarity(query, vectors)
    scores: Array = vectors @ (query / (np.linalg.norm(query) or 1)).astype(vectors.dtype)
    return scores
