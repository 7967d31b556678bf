"""The embedder `hashing`: vectors from hashed words and their character n-grams. It matches words, not meaning.

No key, no download, nothing leaves the machine: good for trying the program and for tests, not for semantic search.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from reindexer.core.profile import DEFAULT_DIMENSIONS
from reindexer.core.text.batching import RequestLimits
from reindexer.ports import EmbedderConfig, Embedding, Vectors

_WORD = re.compile(r"\w+")


class HashingEmbedder:
    """`Embedder` without a provider: deterministic, unit length, never fails."""

    in_process = True

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    @classmethod
    def from_config(cls, config: EmbedderConfig) -> HashingEmbedder:
        """See `reindexer.registry`."""
        return cls(config.dimensions or DEFAULT_DIMENSIONS)

    @property
    def fingerprint(self) -> str:
        """The method's version and the dimensions."""
        return f"hashing-1:{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    @property
    def limits(self) -> RequestLimits:
        """Limits that no real text reaches."""
        return RequestLimits(max_tokens=10_000_000, max_input_tokens=10_000_000)

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:  # noqa: ARG002  nobody to wait for
        """See `reindexer.ports.Embedder.embed`."""
        return Embedding(np.stack([self._vector(text) for text in texts]), 0)

    def _vector(self, text: str) -> Vectors:
        words = Counter(_WORD.findall(text.casefold()))
        features: Counter[str] = Counter()
        for word, count in words.items():
            features[word] += 2 * count
            padded = f" {word} "
            for start in range(len(padded) - 2):
                features[padded[start : start + 3]] += count
        if not features:
            features[text] = 1
        hashes = np.fromiter(
            (crc32(f.encode("utf-8", "replace")) for f in features), dtype=np.int64, count=len(features)
        )
        weights = np.sqrt(np.fromiter(features.values(), dtype=np.float64, count=len(features)))
        signed = np.where(hashes & 1, weights, -weights)
        vector = np.bincount((hashes >> 1) % self._dimensions, weights=signed, minlength=self._dimensions)
        length = float(np.linalg.norm(vector))
        if length == 0.0:
            vector[0] = length = 1.0
        return (vector / length).astype(np.float32)
