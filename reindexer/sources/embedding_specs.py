"""A source's embedding spec with its embedder. Workers and comparisons must agree on it."""

from __future__ import annotations

from reindexer.core.source import Source
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.ports import Embedder


def embedding_spec_of(source: Source, embedder: Embedder) -> EmbeddingSpec:
    """Return how the source's texts become points with this embedder."""
    return EmbeddingSpec.of(source, embedder.fingerprint, embedder.limits.max_input_tokens)
