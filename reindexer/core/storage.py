"""How much a collection takes in Qdrant, from what is known of its points beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reindexer.core.token_range import Range

FACTS_SIZE = 250
"""Bytes of what this program stores with each point, and of the index over it."""
LINKS = 16
"""Of a point in Qdrant's graph, unless the profile says otherwise (`hnsw_config.m`)."""
_SIZES = {"float32": 4.0, "float16": 2.0, "uint8": 1.0}
_SLACK = 1.5
"""Segments are larger than what they hold, and are merged beside the old ones."""


def collection_size(points: Range, dimensions: int, payload_size: float, parameters: Mapping[str, Any]) -> Range:
    """Return the bytes of a collection. `payload_size`: bytes of one point's payload; `parameters`: of the profile."""
    hnsw = parameters.get("hnsw_config")
    links = hnsw.get("m", LINKS) if isinstance(hnsw, Mapping) else LINKS
    vector = dimensions * _SIZES.get(str(parameters.get("datatype", "float32")), 4.0)
    quantization = parameters.get("quantization_config")
    if isinstance(quantization, Mapping):
        vector += dimensions / (8 if "binary" in quantization else 1)
    least = vector + payload_size + FACTS_SIZE
    graph = 8.0 * (links if isinstance(links, int) else LINKS)
    return Range(points.low * least, points.high * (least + graph) * _SLACK)
