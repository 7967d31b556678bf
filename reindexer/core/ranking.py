"""Figures of ranked results: what two searches have in common, and what they find of what they should. Pure
functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

MOST = 10
"""The first so many results count."""
RRF_K = 60

T = TypeVar("T")


def overlap(one: Sequence[str], other: Sequence[str], most: int = MOST) -> float:
    """Return the share of the first results that both have: 1.0 if they are the same, in whatever order."""
    first, second = set(one[:most]), set(other[:most])
    longer = max(len(first), len(second))
    return len(first & second) / longer if longer else 1.0


def recall(found: Sequence[str], expected: Collection[str], most: int = MOST) -> float:
    """Return the share of the expected results that are among the first ones. Of more than `most`, `most` are all."""
    return len(set(found[:most]) & set(expected)) / min(len(set(expected)), most)


def reciprocal_rank(found: Sequence[str], expected: Collection[str]) -> float:
    """Return 1 divided by the rank of the first result that is expected. 0 if none is."""
    return next((1 / rank for rank, each in enumerate(found, 1) if each in expected), 0.0)


def fused(rankings: Sequence[Sequence[T]]) -> list[tuple[T, float]]:
    """Fuse several rankings that share no result: each with its score, 1 / (60 + rank), best first.

    Of equal ranks that of the earlier ranking comes first. 60 is the constant of Cormack, Clarke, Büttcher (2009).
    """
    scored = [(each, 1 / (RRF_K + rank)) for ranking in rankings for rank, each in enumerate(ranking, 1)]
    return sorted(scored, key=lambda each: -each[1])


def mean(values: Sequence[float]) -> float:
    """Return the mean. 0 without values."""
    return sum(values) / len(values) if values else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed. 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
_HNSW_M = 16
"""Links of a point, where the profile says nothing else."""


def stored_bytes(points: int, dimensions: int, parameters: Mapping[str, Any]) -> int:
    """Estimate how many bytes vectors and graph take in an index. `parameters`: the profile's table `collection`.

    Payloads and their indexes are not counted.
    """
    numbers: float = _BYTES.get(str(parameters.get("datatype")), 4)
    quantized = parameters.get("quantization_config") or {}
    if "scalar" in quantized:
        numbers += 1
    elif "binary" in quantized:
        numbers += 1 / 8
    elif "product" in quantized:
        numbers += 4 / int(str(quantized["product"].get("compression", "x16")).removeprefix("x"))
    links = int((parameters.get("hnsw_config") or {}).get("m", _HNSW_M))
    return round(points * (dimensions * numbers + 2 * 4 * links))
