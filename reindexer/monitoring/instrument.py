"""Instrumentation: count the outcomes of claims and items into a `MetricsBuffer`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import (
    CLAIMS,
    CLAIMS_EXPIRED,
    FRESHNESS,
    RETRIES,
    SETTLED,
    SOURCE_CHARACTERS,
    SOURCE_ESTIMATED,
    SOURCE_INPUTS,
    SOURCE_TOKENS,
    WRITES_REFUSED,
)
from reindexer.queue.claim import Claim
from reindexer.queue.settle import Finished, Postponed, Settled


def count_claim(metrics: MetricsBuffer, claim: Claim) -> None:
    """Count a claim that was taken."""
    metrics.add(CLAIMS, lane=claim.lane)
    metrics.add(CLAIMS_EXPIRED, claim.lost)


def count_outcomes(
    metrics: MetricsBuffer, claim: Claim, finished: Sequence[Finished], postponed: Sequence[Postponed], settled: Settled
) -> None:
    """Count a claim that was settled. Items that it no longer held are not counted: the next claim settles them."""
    how = {each.item.item_id: did(each) for each in finished}
    for outcome, items in Counter(how[item_id] for item_id in settled.item_ids).items():
        metrics.add(SETTLED, items, lane=claim.lane, outcome=outcome)
    # Freshness counts only items for which a change was written. An item that was already up to date ended no wait.
    written = (age_s for item_id, age_s in zip(settled.item_ids, settled.ages_s, strict=True)
               if age_s is not None and how[item_id] not in ("skipped", "failed"))  # fmt: skip
    metrics.observe(FRESHNESS, written, lane=claim.lane)
    for cause, items in Counter(each.cause for each in postponed).items():
        metrics.add(RETRIES, items, cause=cause)
    metrics.add(WRITES_REFUSED, sum(each.cause == "fenced" for each in postponed))


def did(finished: Finished) -> str:
    """What became of an item, as metrics and traces label it."""
    if finished.outcome != "COMPLETED":
        return finished.outcome.lower()
    return finished.how if finished.chunks else "blank"


def count_source(
    metrics: MetricsBuffer, source: str, embedder: str, texts: Sequence[str], estimated_tokens: int, tokens: int
) -> None:
    """Count what was embedded for a source. Where the provider counts no tokens, there are none to compare with."""
    metrics.add(SOURCE_INPUTS, len(texts), source=source, embedder=embedder)
    if tokens:
        metrics.add(SOURCE_TOKENS, tokens, source=source, embedder=embedder)
        metrics.add(SOURCE_CHARACTERS, sum(map(len, texts)), source=source, embedder=embedder)
        metrics.add(SOURCE_ESTIMATED, estimated_tokens, source=source, embedder=embedder)
