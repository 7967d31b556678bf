"""A source's recipe with its embedder. Workers and comparisons must agree on it."""

from __future__ import annotations

from reindexer.core.source import Source
from reindexer.core.text.recipe import Recipe
from reindexer.ports import Embedder


def recipe_of(source: Source, embedder: Embedder) -> Recipe:
    """Return how the source's texts become points with this embedder."""
    return Recipe.of(source, embedder.fingerprint, embedder.limits.max_input_tokens)
