"""A source's recipe with its embedder: what both workers and whoever compares must agree on."""

from __future__ import annotations

from reindexer.core.source import Source
from reindexer.core.text.recipe import Recipe
from reindexer.ports import Embedder


def recipe_of(source: Source, embedder: Embedder) -> Recipe:
    """How the source's texts become points with its embedder."""
    return Recipe.of(source, embedder.fingerprint, embedder.limits.max_input_tokens)
