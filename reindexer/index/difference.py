"""How a row, as it is now, differs from its points in the index. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from reindexer.core.items import Row, StoredPoint
from reindexer.core.keywords import Keywords
from reindexer.core.text.embedding_spec import Chunk

Kind = Literal["missing", "stale", "orphaned"]


def row_difference(
    row: Row,
    chunks: Sequence[Chunk],
    stored: Mapping[tuple[str, int], StoredPoint],
    text_key: str | None = None,
    keywords_of: Callable[[str], Keywords] | None = None,
) -> Literal["missing", "stale"] | None:
    """Return what is wrong with a row's points, which must be one per chunk. `stored`: the index, by (item_id, chunk).
    `text_key`: under which key their payloads are to hold their texts. `keywords_of`: what is said in a chunk as
    keywords, where the source has some."""
    points = [stored.get((row.item_id, number)) for number in range(len(chunks))]
    if None in points:
        return "missing"
    for chunk, point in zip(chunks, points, strict=True):
        if point is None or point.fingerprint != chunk.fingerprint:
            return "stale"
        if not same_json(point.payload, chunk.payload(row, text_key)):  # guard reconcile-stored-text
            return "stale"
        # guard reconcile-keywords
        if keywords_of and not same_keywords(point.keywords, keywords_of(chunk.said(row.text))):
            return "stale"
    return None


def same_keywords(stored: Keywords | None, wanted: Keywords) -> bool:
    """Whether a point has these keywords. Qdrant keeps weights as float32."""
    if stored is None or stored.indices != wanted.indices:
        return False
    return all(math.isclose(one, other, rel_tol=1e-6) for one, other in zip(stored.values, wanted.values, strict=True))


def same_json(one: Any, other: Any) -> bool:
    """True for equal JSON values. 1 equals 1.0. Integers beyond 64 bits are compared as doubles, as Qdrant returns
    them."""
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            if left.keys() != right.keys():
                return False
            pairs += [(value, right[key]) for key, value in left.items()]
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif _is_number(left) and _is_number(right):
            if _as_kept(left) != _as_kept(right):
                return False
        elif type(left) is not type(right) or left != right:
            return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_kept(number: float) -> float:
    if isinstance(number, float) or -(2**63) <= number < 2**64:
        return number
    try:
        return float(number)
    except OverflowError:
        return number
