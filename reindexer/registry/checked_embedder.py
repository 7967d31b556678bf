"""Holds an embedder of another package to what the port promises, so that its author need not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from reindexer.core.errors import ReindexerError, TransientError
from reindexer.ports import Embedder, EmbedderDecorator, Embedding


class CheckedEmbedder(EmbedderDecorator):
    """`Embedder` over a plug-in. Wrong vectors and unknown errors become a TransientError, so the item is tried again.

    An unknown error's text is not shown, because it may quote the text that was to be embedded.
    """

    def __init__(self, plugin: Embedder, what: str) -> None:
        """`what`: the plug-in in words, for messages."""
        super().__init__(plugin)
        self._what = what
        self.count_tokens: Callable[[str], int] | None = getattr(plugin, "count_tokens", None)

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder.embed`."""
        try:
            made = self._embedder.embed(texts, timeout_s=timeout_s)
            vectors = np.asarray(made.vectors, dtype=np.float32)
        except ReindexerError:
            raise
        except Exception as exc:  # guard plugin-unknown-error
            raise TransientError(f"{self._what} fails: {type(exc).__name__}") from exc
        if vectors.shape != (len(texts), self.dimensions):
            raise TransientError(
                f"{self._what} makes vectors of the shape {vectors.shape}; {(len(texts), self.dimensions)} is wanted"
            )
        if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():  # guard plugin-vector-check
            raise TransientError(f"{self._what} makes a vector with NaN or infinity in it, or one of zeros")
        return replace(made, vectors=vectors)
