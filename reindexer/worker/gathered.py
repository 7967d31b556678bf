"""The vectors gathered so far for the steps of a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reindexer.core.plan import Embed
from reindexer.core.text.embedding_spec import Chunk
from reindexer.index.fenced import FencedIndex, Place
from reindexer.index.reuse import Reused
from reindexer.index.write import point_of
from reindexer.ports import Numbers, Point


class Got:
    """Vectors in memory, and points that already have their vectors."""

    def __init__(self, reused: Reused) -> None:
        self.kept = reused.kept
        """Points that had their vectors before this claim."""
        self.written: set[Place] = set()
        """Points that this claim has written."""
        self.vectors: dict[str, Numbers] = dict(reused.vectors)
        """By fingerprint."""
        self._moved = reused.vectors.keys()

    def missing(self, step: Embed) -> Sequence[Chunk]:
        """Return the chunks that have to be embedded."""
        return [chunk for _, chunk in self._open(step) if chunk.fingerprint not in self.vectors]

    def has_new(self, step: Embed) -> bool:
        """Whether a chunk of the item was embedded, and its point is not written yet."""
        return any(
            chunk.fingerprint in self.vectors and chunk.fingerprint not in self._moved for _, chunk in self._open(step)
        )

    def points(self, index: FencedIndex, step: Embed) -> Sequence[Point]:
        """Return the item's points that are not written and whose vectors exist."""
        return [
            point_of(index, step, number, chunk, vector)
            for number, chunk in self._open(step)
            if (vector := self.vectors.get(chunk.fingerprint)) is not None
        ]

    def note_written(self, step: Embed) -> None:
        """Record that the `points` of the item are written."""
        self.written |= {
            (step.item.item_id, number) for number, chunk in self._open(step) if chunk.fingerprint in self.vectors
        }

    def upto(self, step: Embed) -> int:
        """Return the number of the first chunk whose point is not written."""
        return next((number for number, _ in self._open(step)), len(step.chunks))

    def _open(self, step: Embed) -> Iterator[tuple[int, Chunk]]:
        for number, chunk in enumerate(step.chunks):
            place = (step.item.item_id, number)
            if place not in self.kept and place not in self.written:
                yield number, chunk
