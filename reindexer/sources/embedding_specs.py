"""A source's embedding spec with its embedder and its chunker. Workers and comparisons must agree on it."""

from __future__ import annotations

from reindexer import registry
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.source import Source
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.ports import Embedder


def embedding_spec_of(source: Source, embedder: Embedder) -> EmbeddingSpec:
    """Return how the source's texts become points with this embedder.

    Raises SourceError if the source's chunker can't be used.
    """
    try:
        cut = registry.chunker(source.chunker)
    except UsageError as exc:
        raise SourceError(f"source {source.name!r}: {exc}") from exc
    return EmbeddingSpec.of(source, embedder.fingerprint, embedder.limits.max_input_tokens, cut)
