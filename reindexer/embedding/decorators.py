"""Decorators of the port `Embedder`: each adds one concern to every request, and forwards the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

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
from reindexer.core.spend import Charged, Purpose, most_tokens
from reindexer.core.text.batching import RequestLimits
from reindexer.embedding.purse import Purse
from reindexer.embedding.rate_limit import PATIENCE_S, Throttle
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import (
    PROVIDER_INPUTS,
    PROVIDER_REQUESTS,
    PROVIDER_SECONDS,
    PROVIDER_TOKENS,
    PROVIDER_WAIT,
)
from reindexer.ports import Embedder, EmbedderDecorator, Embedding, RateLimiter
from reindexer.queue.breaker import HealthRecorder
from reindexer.queue.lease import RequestWindow

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

_NOT_SERVED = (RateLimited, OutOfQuota, PermanentError, SourceError)
"""Refusals: nothing was embedded. Of other errors nobody knows."""

_purpose: ContextVar[Purpose | None] = ContextVar("purpose", default=None)


@contextmanager
def spending(purpose: Purpose) -> Iterator[None]:
    """Context of requests that are made for this purpose, by this thread."""
    before = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(before)


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


class SpendingEmbedder(EmbedderDecorator):
    """Reserves the most that each request may cost before it is sent, and accounts what the provider counted."""

    def __init__(self, embedder: Embedder, purse: Purse, charged: Charged, purpose: Purpose) -> None:
        """`purpose`: what requests are for where `spending` does not say."""
        super().__init__(embedder)
        self._purse = purse
        self._charged = charged
        self._purpose = purpose

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`. Raises TransientError if nothing can be reserved."""
        until = time.monotonic() + timeout_s
        reserved = self._purse.reserve(self._charged, _purpose.get() or self._purpose, most_tokens(texts))
        if reserved is None:
            return self._embedder.embed(texts, timeout_s=timeout_s)
        tokens, is_sure = 0, False
        try:
            embedding = self._embedder.embed(texts, timeout_s=max(until - time.monotonic(), timeout_s / 2))
            tokens, is_sure = embedding.tokens, embedding.tokens > 0 and not embedding.is_unsure
        except ReindexerError as exc:
            tokens = exc.tokens
            is_sure = isinstance(exc, _NOT_SERVED) if exc.may_cost is None else not exc.may_cost
            raise
        finally:
            if is_sure:
                reserved.counted(tokens)
            else:
                reserved.unconfirmed(tokens)
        return embedding


class ObservedEmbedder(EmbedderDecorator):
    """Records how the provider answers."""

    def __init__(
        self,
        embedder: Embedder,
        health: HealthRecorder,
        step: Callable[[str, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
    ) -> None:
        """`step` is entered around each request: what it is, and of how many texts."""
        super().__init__(embedder)
        self._health = health
        self._step = step

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`."""
        with self._health.observe("provider"), self._step("embed", len(texts)):
            return self._embedder.embed(texts, timeout_s=timeout_s)


class RateLimitedEmbedder(EmbedderDecorator):
    """An embedder for searches. Each search waits for a slot within its own timeout, before all backfills."""

    def __init__(self, embedder: Embedder, rate_limiter: RateLimiter, metrics: MetricsBuffer | None = None) -> None:
        super().__init__(embedder)
        self._throttle = Throttle(rate_limiter, metrics, "queries", live=True)

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`."""
        until = time.monotonic() + timeout_s
        reservation = self._throttle.wait(texts, min(PATIENCE_S, timeout_s / 2))
        with self._throttle.taken(reservation) as answered:
            embedding = self._embedder.embed(texts, timeout_s=until - time.monotonic())
            answered(embedding)
        return embedding


class PrefixedEmbedder(EmbedderDecorator):
    """An embedder for queries of a model that wants words in front of each."""

    def __init__(self, embedder: Embedder, prefix: str) -> None:
        super().__init__(embedder)
        self._prefix = prefix

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`."""
        return self._embedder.embed([self._prefix + text for text in texts], timeout_s=timeout_s)


class ClaimEmbedder(EmbedderDecorator):
    """The embedder as one claim sees it: a request waits for its slot in the rate limit, within the claim's time."""

    def __init__(
        self,
        embedder: Embedder,
        throttle: Throttle,
        begin: Callable[[], RequestWindow],
        measured: Callable[[Sequence[str], int, int], None] = lambda *_: None,
    ) -> None:
        """`measured` is called with each answer: the texts, their estimated tokens, and those of the provider."""
        super().__init__(embedder)
        self._throttle = throttle
        self._begin = begin
        self._measured = measured

    @property
    def limits(self) -> RequestLimits:
        """The limits of one request, under the rate limit."""
        return self._throttle.shape(self._embedder.limits)

    def begin(self) -> RequestWindow:
        """Begin a series of requests. Returns its time. Raises LeaseExpired if there is none."""
        return self._begin()

    def embed(self, texts: Sequence[str], window: RequestWindow, *, patience_s: float | None = None) -> Embedding:
        """Embed texts in one request, as `reindexer.ports.Embedder` does.

        `patience_s`: the longest wait for a slot, if the window allows it; None: the claim's. Raises LeaseExpired if
        too little time is left.
        """
        patience_s = self._throttle.patience_s if patience_s is None else patience_s
        reservation = self._throttle.wait(texts, min(patience_s, window.spare_s()))
        # The wait is not observed: a caller that waits for the rate limiter has not seen the provider answer.
        with self._throttle.taken(reservation) as answered:
            embedding = self._embedder.embed(texts, timeout_s=window.next_s())
            answered(embedding)
        self._measured(texts, reservation.tokens, embedding.tokens)
        return embedding
