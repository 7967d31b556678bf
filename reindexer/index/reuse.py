"""Reuse: a chunk whose vector is in Qdrant already is not embedded again. It may be at its own place, at another, or in
the collection of another generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reindexer.core.plan import Embed
from reindexer.core.text.batching import slices
from reindexer.core.text.embedding_spec import Chunk
from reindexer.index.fenced import FencedIndex, IndexView, Place
from reindexer.ports import Numbers

FACTS = 1024
VECTORS = 256
"""Maximum points per request."""


@dataclass(frozen=True, slots=True)
class Reused:
    """What need not be embedded."""

    kept: frozenset[Place] = frozenset()
    """Points that already have the right vector."""
    vectors: Mapping[str, Numbers] = field(default_factory=dict)
    """Vectors by fingerprint, of chunks that move to another place."""


def find_reusable(index: FencedIndex, steps: Sequence[Embed]) -> Reused:
    """Ask Qdrant which of the steps' chunks it holds. Raises TransientError or PermanentError, as the index does.

    A point's fingerprint identifies its vector, whichever process wrote it, because both are written together.
    """
    numbers = {step.item.item_id: range(_most(step)) for step in steps}
    places = [(item_id, n) for item_id, each in numbers.items() for n in each]
    there: dict[Place, str] = {}
    for asked in slices(places, FACTS):
        stored = index.stored(asked)
        there |= {place: point.fingerprint for place, point in stored.items()}
    kept, moved = set[Place](), dict[Place, str]()
    for step in steps:
        item_id = step.item.item_id
        own = {there[item_id, n]: (item_id, n) for n in numbers[item_id] if (item_id, n) in there}
        for number, chunk in enumerate(step.chunks):
            if there.get((item_id, number)) == chunk.fingerprint:
                kept.add((item_id, number))
            elif chunk.fingerprint in own:
                moved[own[chunk.fingerprint]] = chunk.fingerprint
    return Reused(frozenset(kept), _vectors(index, moved))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Chunks of an item that are to be looked for in the collection of another generation."""

    step: Embed
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger says of an item in another generation."""

    chunks: int
    text_fingerprint: str | None


def find_elsewhere(donor: IndexView, wanted: Sequence[Wanted], known: Mapping[str, Known]) -> Mapping[str, Numbers]:
    """Return the vectors, by fingerprint, of those chunks that another generation holds. Raises as the index does.

    `known` is by item id. Chunk numbers may differ, because the other generation may cut otherwise.
    """
    places, asked = dict[Place, str](), list[Place]()
    for each in wanted:
        item_id = each.step.item.item_id
        if (told := known.get(item_id)) is None:
            continue
        if told.text_fingerprint == each.step.text_fingerprint:
            numbers = {chunk.fingerprint: number for number, chunk in enumerate(each.step.chunks)}
            places |= {(item_id, numbers[chunk.fingerprint]): chunk.fingerprint for chunk in each.chunks}
        else:
            asked += [(item_id, number) for number in range(told.chunks)]
    sought = {(each.step.item.item_id, chunk.fingerprint) for each in wanted for chunk in each.chunks}
    for some in slices(asked, FACTS):
        for place, point in donor.stored(some).items():
            if (place[0], point.fingerprint) in sought:
                places[place] = point.fingerprint
    return _vectors(donor, places)


def _vectors(index: IndexView, places: Mapping[Place, str]) -> dict[str, Numbers]:
    """Return vectors by fingerprint. `places`: the fingerprint that each point is to have.

    Those of one request stay as they came: to convert them, and back, takes a tenth of a rebuild's time. As lists they
    take eight times the memory, so more become arrays.
    """
    vectors: dict[str, Numbers] = {}
    for asked in slices(list(places), VECTORS):
        for place, found in index.vectors(asked).items():
            if found.fingerprint == places[place]:  # guard reused-vector-fingerprint
                is_small = len(places) <= VECTORS
                vectors[places[place]] = found.vector if is_small else np.asarray(found.vector, dtype=np.float32)
    return vectors


def _most(step: Embed) -> int:
    """The number of the item's points that are worth asking for."""
    may_be_there = max(step.item.chunks, len(step.chunks))
    return may_be_there if step.reuses_before is None else min(may_be_there, step.reuses_before)
