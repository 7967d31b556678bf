"""Instrumentation: count outcomes of claims, items and provider requests into a `MetricsBuffer`."""

from __future__ import annotations

import time
from collections import Counter
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
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import (
    CLAIMS,
    CLAIMS_EXPIRED,
    FRESHNESS,
    PROVIDER_INPUTS,
    PROVIDER_REQUESTS,
    PROVIDER_SECONDS,
    PROVIDER_TOKENS,
    PROVIDER_WAIT,
    RETRIES,
    SETTLED,
    WRITES_REFUSED,
)
from reindexer.ports import Embedder, Embedding
from reindexer.queue.claim import Claim
from reindexer.queue.settle import Finished, Postponed, Settled

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


def count_claim(metrics: MetricsBuffer, claim: Claim) -> None:
    """Count a claim that was taken."""
    metrics.add(CLAIMS, lane=claim.lane)
    metrics.add(CLAIMS_EXPIRED, claim.lost)


def count_outcomes(
    metrics: MetricsBuffer, claim: Claim, finished: Sequence[Finished], postponed: Sequence[Postponed], settled: Settled
) -> None:
    """Count a claim that was settled. Items that it no longer held are not counted: the next claim settles them."""
    did = {each.item.item_id: _did(each) for each in finished}
    for outcome, items in Counter(did[item_id] for item_id in settled.item_ids).items():
        metrics.add(SETTLED, items, lane=claim.lane, outcome=outcome)
    # Freshness counts only items for which a change was written. An item that was already up to date ended no wait.
    written = (age_s for item_id, age_s in zip(settled.item_ids, settled.ages_s, strict=True)
               if age_s is not None and did[item_id] not in ("skipped", "failed"))  # fmt: skip
    metrics.observe(FRESHNESS, written, lane=claim.lane)
    for cause, items in Counter(each.cause for each in postponed).items():
        metrics.add(RETRIES, items, cause=cause)
    metrics.add(WRITES_REFUSED, sum(each.cause == "fenced" for each in postponed))


def _did(finished: Finished) -> str:
    if finished.outcome != "COMPLETED":
        return finished.outcome.lower()
    return finished.how if finished.chunks else "blank"


class CountedEmbedder:
    """An `Embedder` whose requests are counted."""

    def __init__(self, embedder: Embedder, metrics: MetricsBuffer, purpose: str) -> None:
        self._embedder = embedder
        self._metrics = metrics
        self._purpose = purpose

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
