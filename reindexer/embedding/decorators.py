"""Decorators of the port `Embedder`: each adds one concern to every request, and forwards the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence

from reindexer.core.errors import (
    DependencyUnavailable,
    InputRejected,
    OutOfQuota,
    PermanentError,
    RateLimited,
    ReindexerError,
    SourceError,
    TransientError,
)
from reindexer.core.text.batching import RequestLimits
from reindexer.embedding.rate_limit import PATIENCE_S, Throttle
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import (
    PROVIDER_INPUTS,
    PROVIDER_REQUESTS,
    PROVIDER_SECONDS,
    PROVIDER_TOKENS,
    PROVIDER_WAIT,
)
from reindexer.ports import Embedder, Embedding, RateLimiter

_ANSWERS: tuple[tuple[type[ReindexerError], str], ...] = (
    (RateLimited, "rate_limited"),
    (OutOfQuota, "refused"),
    (DependencyUnavailable, "away"),
    (TransientError, "error"),
    (InputRejected, "rejected"),
    (PermanentError, "refused"),
    (SourceError, "refused"),
)
"""The first matching error type decides."""


class EmbedderDecorator:
    """Forwards what it is asked about the embedder. A subclass adds to `embed`."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def fingerprint(self) -> str:
        """See `reindexer.ports.Embedder`."""
        return self._embedder.fingerprint

    @property
    def dimensions(self) -> int:
        """See `reindexer.ports.Embedder`."""
        return self._embedder.dimensions

    @property
    def limits(self) -> RequestLimits:
        """See `reindexer.ports.Embedder`."""
        return self._embedder.limits


class CountedEmbedder(EmbedderDecorator):
    """Counts the requests, what they hold and how they end."""

    def __init__(self, embedder: Embedder, metrics: MetricsBuffer, purpose: str) -> None:
        super().__init__(embedder)
        self._metrics = metrics
        self._purpose = purpose

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`."""
        started = time.monotonic()
        try:
            embedding = self._embedder.embed(texts, timeout_s=timeout_s)
        except ReindexerError as exc:
            self._answered(started, next(answer for kind, answer in _ANSWERS if isinstance(exc, kind)))
            if isinstance(exc, TransientError) and exc.retry_after_s:
                self._metrics.add(PROVIDER_WAIT, exc.retry_after_s)
            raise
        self._answered(started, "ok")
        self._metrics.add(PROVIDER_INPUTS, len(texts), purpose=self._purpose)
        self._metrics.add(PROVIDER_TOKENS, embedding.tokens, purpose=self._purpose)
        return embedding

    def _answered(self, started: float, outcome: str) -> None:
        self._metrics.add(PROVIDER_REQUESTS, purpose=self._purpose, outcome=outcome)
        self._metrics.observe(PROVIDER_SECONDS, [time.monotonic() - started], purpose=self._purpose)


class RateLimitedEmbedder(EmbedderDecorator):
    """An embedder for searches. Each search waits for a slot within its own timeout, before all backfills."""

    def __init__(self, embedder: Embedder, budget: RateLimiter, metrics: MetricsBuffer | None = None) -> None:
        super().__init__(embedder)
        self._throttle = Throttle(budget, metrics, "queries", live=True)

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`."""
        until = time.monotonic() + timeout_s
        turn = self._throttle.wait(texts, min(PATIENCE_S, timeout_s / 2))
        with self._throttle.taken(turn) as answered:
            embedding = self._embedder.embed(texts, timeout_s=until - time.monotonic())
            answered(embedding)
        return embedding
