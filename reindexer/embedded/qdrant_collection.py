"""One collection: a shard of Qdrant's engine, and what the engine does not keep: parameters, metadata, payload schema.

Guarantees: a write that returned survives a SIGKILL, by the engine's write-ahead log. A write that can't be understood
has no effect; any other takes effect as a whole. Every method is short, and for one thread alone (`turns`).

The engine's own `optimize` is not called. It holds the GIL throughout (✓ 35 s for an index of 4,500 points of 1,536
dimensions, 2.4 s for 6,000 without one, for it flushes), and works until nothing is left to do. It would be needed here
only for the space of deleted points, and `compacting` reclaims that in short steps. Without `optimize`, a search
compares all vectors: ✓ 0.4 ms for 1,000.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from reindexer.embedded import qdrant_words as words
from reindexer.embedded.qdrant_shard import Shard
from reindexer.embedded.qdrant_words import Json

PAGE_BYTES = 512 * 1024
"""Bytes of vectors that one step of compacting copies: about 20 ms."""
PAGE_POINTS = 500
"""The most points of a step: however short its vector, each point has a payload and index entries."""
COMPACT_FROM = 1_000
"""Compacting starts when there are more deleted points than this, and more than live ones."""
EVERYTHING = 2**31
"""More points than any collection here has."""


@dataclass(slots=True)
class Described:
    """The persisted description of a collection."""

    folder: str
    """The folder of its shard."""
    params: dict[str, Json]
    schema: dict[str, Json] = field(default_factory=dict)
    """The payload indexes by field: `data_type`, and `params` as in the request."""
    gone: int = 0
    """How many points were deleted since the shard was created."""


@dataclass(slots=True)
class Update:
    """One operation, ready for the engine. `points`: ids, or a filter that chooses them; `vectors`: those it writes."""

    operation: edge.UpdateOperation
    points: Any
    vectors: Sequence[Any] = ()
    deletes: bool = False


class PointMissing(KeyError):
    """There is no point with this id."""


class Collection:
    """An open collection. `home`: the folder of the shards' folders; `log`: whether its writes survive the process;
    `is_new`: its shard is still to be created."""

    def __init__(self, home: Path, described: Described, *, log: bool, is_new: bool = False) -> None:
        self._home, self._log = home, log
        self.described = described
        folder = home / described.folder
        self.current = Shard.make(folder, described.params, log=log) if is_new else Shard.load(folder)
        self.replaced: Shard | None = None
        """The shard that compacting replaced. Freeing it takes about as long as a flush."""
        self.fresh: Shard | None = None
        """The shard that compacting copies to."""
        self._touched: set[Any] | None = None
        self._is_copied = False
        """Only points that were written during the copying are left to copy."""
        self.is_open = True

    @property
    def shard(self) -> edge.EdgeShard:
        """The engine's shard."""
        return self.current.engine

    def close(self) -> None:
        """Write everything to disk, and close the shard."""
        self.is_open = False
        self.shard.close()

    def drop(self) -> None:
        """Delete the collection and its data."""
        self.is_open = False
        for each in (self.current, self.replaced):
            if each is not None:
                shutil.rmtree(each.folder, ignore_errors=True)

    def let_go(self) -> Path | None:
        """Free the shard that compacting replaced. Returns its folder, which the caller can then delete: to delete that
        of an open shard would take as long as its size, and just when the engine frees it."""
        left, self.replaced = self.replaced, None
        return left.folder if left is not None else None

    # Writes

    def understood(self, operations: Sequence[Mapping[str, Json]]) -> list[Update]:
        """Parse the operations of /points/batch, each `{kind: parameters}`. Raises KeyError, TypeError or ValueError
        for what can't be understood."""
        if not isinstance(operations, list):
            raise TypeError("operations: not a list")
        return [_understood(each) for each in operations]

    def write(self, updates: Sequence[Update], size: int) -> None:
        """Apply all updates, in order. Raises ValueError, and applies none, if a vector does not fit the collection."""
        for each in updates:
            for vector in each.vectors:
                self._require_fits(vector)  # guard embedded-write-atomicity
        self.current.note(sum(len(each.points) for each in updates if isinstance(each.points, list)), size)
        touched = len(self._touched or ())
        for each in updates:
            if self._touched is not None:
                self._touched |= self._ids_of(each.points)  # guard embedded-shard-copy-recopy
            before = self.count() if each.deletes else 0
            self.shard.update(each.operation)
            if each.deletes:
                self.described.gone += before - self.count()
        # Otherwise a stream of writes would stay ahead of the steps for ever.
        if self._touched is not None and self._is_copied:  # guard embedded-copy-own-writes
            self._copy_again(min(len(self._touched) - touched, 4 * self._page()))

    def _require_fits(self, vector: Any) -> None:
        """Without this check, the engine would write the points before the first that does not fit."""
        for name, each in (vector if isinstance(vector, dict) else {"": vector}).items():
            if name in self._sparse_names:
                continue
            if name not in self._sizes:
                raise ValueError(f"Not existing vector name error: {name}")
            rows = each if each and isinstance(each[0], list) else [each]
            if rows is each and name not in self._multiple_names:
                raise ValueError(
                    f"Conversion between multi and regular vectors failed: {name or 'the vector'} is one row"
                )
            for row in rows:
                if len(row) != self._sizes[name]:
                    raise ValueError(f"Vector dimension error: expected dim: {self._sizes[name]}, got {len(row)}")

    @property
    def _sizes(self) -> dict[str, int]:
        vectors = self.described.params.get("vectors") or {}
        return {name: each["size"] for name, each in ({"": vectors} if "size" in vectors else vectors).items()}

    @property
    def _multiple_names(self) -> set[str]:
        vectors = self.described.params.get("vectors") or {}
        each = {"": vectors} if "size" in vectors else vectors
        return {name for name, params in each.items() if params.get("multivector_config")}

    @property
    def _sparse_names(self) -> set[str]:
        return set(self.described.params.get("sparse_vectors") or {})

    def _ids_of(self, points: Any) -> set[Any]:
        if isinstance(points, edge.Filter):
            records, _ = self.shard.scroll(edge.ScrollRequest(limit=EVERYTHING, filter=points, with_payload=False))
            points = [record.id for record in records]
        return {each if isinstance(each, int) else uuid.UUID(str(each)) for each in points}

    def add_sparse(self, name: str, params: Mapping[str, Json]) -> None:
        """Let points have another sparse vector. Raises ValueError if there is a vector of this name."""
        if name in self._sizes or name in self._sparse_names:
            raise ValueError(f"Vector {name!r} already exists")
        for shard in self._shards():
            shard.update(edge.UpdateOperation.create_sparse_vector(name, words.sparse_of(params).modifier))
        self.described.params.setdefault("sparse_vectors", {})[name] = dict(params)

    # Payload indexes

    def index(self, name: str, schema: Json) -> None:
        """Create a field's index; replaces one of another type."""
        kind, params, ours = words.index_of(schema)
        for shard in self._shards():
            if name in self.described.schema:
                shard.update(edge.UpdateOperation.delete_field_index(name))
            shard.update(edge.UpdateOperation.create_field_index(name, ours))
        self.described.schema[name] = {"data_type": kind, "params": params}

    def unindex(self, name: str) -> None:
        """Remove a field's index, if there is one."""
        if self.described.schema.pop(name, None):
            for shard in self._shards():
                shard.update(edge.UpdateOperation.delete_field_index(name))

    def _shards(self) -> list[edge.EdgeShard]:
        return [each.engine for each in (self.current, self.fresh) if each is not None]

    # Reads

    def count(self, where: edge.Filter | None = None) -> int:
        """The number of points, or of those that match the filter."""
        return self.shard.info().points_count if where is None else self.shard.count(edge.CountRequest(filter=where))

    def vector(self, point_id: Json, using: str | None) -> Any:
        """One vector of a point. Raises PointMissing."""
        for record in self.shard.retrieve([point_id], False, True):
            found = record.vector
            return found[using or ""] if isinstance(found, dict) else found
        raise PointMissing(point_id)

    # Compacting

    @property
    def is_loose(self) -> bool:
        """Whether there are enough deleted points to compact."""
        return self._touched is None and self.described.gone > max(COMPACT_FROM, self.count())

    def compacting(self, folder: str, settled: Callable[[], None]) -> Generator[bool]:
        """Copy the points into a new shard, one page per step; points that are written meanwhile are copied again.
        `settled` is called when the new shard has replaced the old one, and persists that. After a step that yields
        True the caller must flush the new shard: what has long been on disk must be there still when the old one goes.

        A shard keeps deleted points until it is rebuilt, so ids that never return would fill the disk.
        """
        old, self._touched = self.current, set()
        page, offset, was_gone = self._page(), None, self.described.gone
        try:
            fresh = self.fresh = Shard.make(self._home / folder, self.described.params, log=self._log)
            yield False
            for name in list(self.described.schema):  # each index waits for the disk
                if index := self.described.schema.get(name):
                    fresh.engine.update(edge.UpdateOperation.create_field_index(name, _schema_again(index)))
                    yield False
            while not self._is_copied:
                request = edge.ScrollRequest(offset, page, with_payload=True, with_vector=True)
                records, offset = self.shard.scroll(request)
                self._copy(records)
                self._is_copied = offset is None
                yield False
            for is_flushed in (False, True):
                while len(self._touched) > page:
                    self._copy_again(page)
                    yield False
                if not is_flushed:
                    yield True
            self._copy_again(page)
            gone = self.described.gone
            self.current, self.fresh = fresh, None
            self.described.folder, self.described.gone = folder, gone - was_gone
            try:
                settled()  # guard embedded-shard-switch-order
            except BaseException:  # later writes must go to the shard that the next start will open
                # guard embedded-shard-switch-rollback
                self.current, self.described.folder, self.described.gone = old, old.folder.name, gone
                raise
            self.replaced = old
        finally:
            self._touched, self.fresh, self._is_copied = None, None, False
            if self.described.folder != folder:
                shutil.rmtree(self._home / folder, ignore_errors=True)

    def _page(self) -> int:
        return max(1, min(PAGE_POINTS, PAGE_BYTES // self._point_bytes))  # guard embedded-compaction-paging

    @property
    def _point_bytes(self) -> int:
        return 4 * max(1, sum(self._sizes.values()))

    def _copy_again(self, limit: int) -> None:
        """Copy some of the points that were written since copying began again, or delete them from the new shard."""
        assert self._touched is not None
        assert self.fresh is not None
        some = [self._touched.pop() for _ in range(min(limit, len(self._touched)))]
        if some:
            self.fresh.engine.update(edge.UpdateOperation.delete_points(some))
            self._copy(self.shard.retrieve(some, True, True))

    def _copy(self, records: Sequence[edge.Record]) -> None:
        assert self.fresh is not None
        if records:
            points = [edge.Point(each.id, each.vector or {}, each.payload) for each in records]
            self.fresh.engine.update(edge.UpdateOperation.upsert_points(points))
            self.fresh.note(len(points), len(points) * self._point_bytes)


def _schema_again(index: Mapping[str, Json]) -> Any:
    return words.index_of(index["params"] or index["data_type"])[2]


_MODES = {
    None: None, "upsert": edge.UpdateMode.Upsert, "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}  # fmt: skip


def _understood(operation: Mapping[str, Json]) -> Update:
    for kind, what in operation.items():
        if kind in _WRITES:
            return _WRITES[kind](what)
    raise ValueError(f"no operation is known that looks like {sorted(operation)}")


def _upsert(what: Json) -> Update:
    points = words.points_of(what)
    condition, mode = words.filter_of(what.get("update_filter")), _MODES[what.get("update_mode")]
    operation = edge.UpdateOperation.upsert_points(points, condition, mode)
    return Update(operation, [each.id for each in points], [each.vector for each in points])


def _update_vectors(what: Json) -> Update:
    points = [edge.PointVectors(each["id"], words.vector_of(each["vector"])) for each in what["points"]]
    operation = edge.UpdateOperation.update_vectors(points, words.filter_of(what.get("update_filter")))
    return Update(operation, [each.id for each in points], [each.vector for each in points])


def _on_chosen(
    by_id: Callable[..., Any], by_filter: Callable[..., Any], more: Callable[[Json], Sequence[Any]] = lambda _: (),
    *, deletes: bool = False,
) -> Callable[[Json], Update]:  # fmt: skip
    """A parser of an operation on points that are chosen by ids or by a filter. `more`: its other arguments."""

    def understood(what: Json) -> Update:
        match what:
            case {"filter": dict(conditions)}:
                chosen = words.filter_of(conditions)
                return Update(by_filter(chosen, *more(what)), chosen, deletes=deletes)
            case {"points": list(ids)}:
                return Update(by_id(ids, *more(what)), ids, deletes=deletes)
        raise ValueError("neither points nor filter says which points are meant")

    return understood


def _payload_of(what: Json) -> Sequence[Any]:
    if not isinstance(what["payload"], dict):
        raise TypeError("payload: not an object")
    return what["payload"], what.get("key")


_Op = edge.UpdateOperation
_WRITES: Mapping[str, Callable[[Json], Update]] = {
    "upsert": _upsert,
    "update_vectors": _update_vectors,
    "delete": _on_chosen(_Op.delete_points, _Op.delete_points_by_filter, deletes=True),
    "set_payload": _on_chosen(_Op.set_payload, _Op.set_payload_by_filter, _payload_of),
    "overwrite_payload": _on_chosen(_Op.overwrite_payload, _Op.overwrite_payload_by_filter, _payload_of),
    "delete_payload": _on_chosen(_Op.delete_payload, _Op.delete_payload_by_filter, lambda what: (what["keys"],)),
    "clear_payload": _on_chosen(_Op.clear_payload, _Op.clear_payload_by_filter),
    "delete_vectors": _on_chosen(_Op.delete_vectors, _Op.delete_vectors_by_filter, lambda what: (what["vector"],)),
}
