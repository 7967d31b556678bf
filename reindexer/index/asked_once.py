"""One query to several sources: embedders that make the same vector of it are asked once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from reindexer.core.source import Source
from reindexer.ports import Embedder, EmbedderDecorator, EmbedderOf, Embedding


def asked_once(embedder_of: EmbedderOf) -> EmbedderOf:
    """Return embedders that remember what was asked of any of them that makes the same vectors.

    Two sources have one fingerprint (provider, model, dimensions) if different servers call different models by one
    name. They share a vector only if their profiles lead to the same server and the same addresses are known to make
    their vectors: an address may still have to prove itself for one of them.
    """
    made: dict[Hashable, Embedding] = {}

    def of(source: Source) -> Embedder:
        embedder = embedder_of(source)
        asks = replace(source.profile, provider=None, model=None, dimensions=None, distance="cosine", collection={})
        same = embedder.fingerprint, asks, frozenset(source.servers)  # guard search-shared-query-vector
        return _AskedOnce(embedder, same, made)

    return of


class _AskedOnce(EmbedderDecorator):
    def __init__(self, embedder: Embedder, same: Hashable, made: dict[Hashable, Embedding]) -> None:
        super().__init__(embedder)
        self._same = same
        self._made = made

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`."""
        asked = self._same, tuple(texts)
        if asked not in self._made:
            self._made[asked] = self._embedder.embed(texts, timeout_s=timeout_s)
        return self._made[asked]
