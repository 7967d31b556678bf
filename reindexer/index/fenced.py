"""The index as one claim sees it: the points of one collection, where every write carries the claim's token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from reindexer.core.items import StoredPoint
from reindexer.core.keywords import Keywords
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.ports import Collection, Index, KeywordEncoder, Point, StoredVector

Place = tuple[str, int]
"""Place of a point: item id and chunk number."""

RequestContext = Callable[[str, int], AbstractContextManager[float]]
"""Context of one request: what it is, and of how many points. It gives the request's timeout, and raises when the claim
has no time left."""


class IndexView:
    """Binds an `Index` to a collection, for reading. Each method is one request, and raises as the `Index` does.

    `reading` is entered around each request. The claim uses it to observe, to yield, and to bound it.
    """

    def __init__(self, index: Index, collection: Collection, reading: RequestContext) -> None:
        self.collection = collection
        self._index = index
        self._reading = reading

    def stored(self, places: Sequence[Place]) -> Mapping[Place, StoredPoint]:
        """See `reindexer.ports.Index.stored`; without payload."""
        with self._reading("look", len(places)) as timeout_s:
            return self._index.stored(self.collection, places, timeout_s, payload=False)

    def payloads(self, places: Sequence[Place]) -> Mapping[Place, StoredPoint]:
        """See `reindexer.ports.Index.stored`; with payload."""
        with self._reading("look", len(places)) as timeout_s:
            return self._index.stored(self.collection, places, timeout_s)

    def points_of(self, item_ids: Sequence[str]) -> Sequence[StoredPoint]:
        """See `reindexer.ports.Index.points_of`."""
        with self._reading("look", len(item_ids)) as timeout_s:
            return self._index.points_of(self.collection, item_ids, timeout_s)

    def vectors(self, places: Sequence[Place]) -> Mapping[Place, StoredVector]:
        """See `reindexer.ports.Index.vectors`."""
        with self._reading("look", len(places)) as timeout_s:
            return self._index.vectors(self.collection, places, timeout_s)

    def datatype(self) -> str | None:
        """See `reindexer.ports.Index.datatype`."""
        with self._reading("look", 0):
            return self._index.datatype(self.collection)

    def tokens(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """See `reindexer.ports.Index.tokens`."""
        with self._reading("look", len(places)) as timeout_s:
            return self._index.tokens(self.collection, places, timeout_s)


class FencedIndex(IndexView):
    """An `IndexView` that also writes, with a token. `writing` is entered around each write. `encoder`: of the source's
    keywords, if it has some."""

    def __init__(
        self,
        index: Index,
        collection: Collection,
        dimensions: int,
        token: int,
        *,
        reading: RequestContext,
        writing: RequestContext,
        encoder: KeywordEncoder | None = None,
    ) -> None:
        super().__init__(index, collection, reading)
        self.token = token
        self._encoder = encoder
        self._dimensions = dimensions
        self._writing = writing

    def keywords(self, text: str) -> Keywords | None:
        """Return the keywords of a chunk's text. None: the source has none."""
        return self._encoder.document(text) if self._encoder else None

    def prepare(self, owner: Owner, columns: Sequence[PayloadColumn]) -> str | None:
        """See `reindexer.ports.Index.prepare`. It takes longer than a request, and has its own timeout."""
        with self._reading("prepare", 0):
            return self._index.prepare(self.collection, self._dimensions, owner, columns)

    def touch(self) -> None:
        """See `reindexer.ports.Index.touch`."""
        with self._reading("prepare", 0) as timeout_s:
            self._index.touch(self.collection, self._dimensions, timeout_s)

    def upsert(self, points: Sequence[Point]) -> None:
        """See `reindexer.ports.Index.upsert`."""
        with self._writing("upsert", len(points)) as timeout_s:
            self._index.upsert(self.collection, points, self.token, timeout_s)

    def update_payload(self, points: Sequence[Point]) -> None:
        """See `reindexer.ports.Index.update_payload`."""
        with self._writing("payload", len(points)) as timeout_s:
            self._index.update_payload(self.collection, points, self.token, timeout_s)

    def delete_items(self, item_ids: Sequence[str]) -> None:
        """See `reindexer.ports.Index.delete_items`."""
        with self._writing("delete", len(item_ids)) as timeout_s:
            self._index.delete_items(self.collection, item_ids, self.token, timeout_s)

    def delete_surplus(self, chunks: Mapping[str, int]) -> None:
        """See `reindexer.ports.Index.delete_surplus`."""
        with self._writing("delete", len(chunks)) as timeout_s:
            self._index.delete_surplus(self.collection, chunks, self.token, timeout_s)
