"""Reuse: a chunk whose vector is in Qdrant already, at its own place or another, is not embedded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reindexer.core.plan import Embed
from reindexer.core.text.batching import slices
from reindexer.index.fenced import FencedIndex, Place
from reindexer.ports import Vector

FACTS = 1024
VECTORS = 256
"""Maximum points per request."""


@dataclass(frozen=True, slots=True)
class Reused:
    """What need not be embedded."""

    kept: frozenset[Place] = frozenset()
    """Points that already have the right vector."""
    vectors: Mapping[str, Vector] = field(default_factory=dict)
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
    vectors: dict[str, Vector] = {}
    for asked in slices(list(moved), VECTORS):
        found = index.vectors(asked)
        vectors |= {moved[place]: vector for place, vector in found.items()}
    return Reused(frozenset(kept), vectors)


def _most(step: Embed) -> int:
    """The number of the item's points that are worth asking for."""
    may_be_there = max(step.item.chunks, len(step.chunks))
    return may_be_there if step.reuses_before is None else min(may_be_there, step.reuses_before)
