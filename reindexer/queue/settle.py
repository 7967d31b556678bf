"""Settle: record the outcomes of a claim's items, as far as the claim still holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reindexer.core.event import ItemEvent
from reindexer.core.items import ClaimedItem
from reindexer.postgres.connect import Connection, keep_plan
from reindexer.postgres.locks import PROMOTION_LOCKS, RELEASE_CHANNEL
from reindexer.postgres.queries import load
from reindexer.postgres.schema import REVISION
from reindexer.queue.claim import Claim

How = Literal["embedded", "payload", "skipped"]
Cause = Literal["error", "rate_limited", "provider", "fenced", "source", "late", "postgres", "too_long", "budget"]
Outcome = Literal["COMPLETED", "FAILED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Finished:
    """An item whose work is over."""

    item: ClaimedItem
    outcome: Outcome
    text_fingerprint: str | None = None
    """None where the content of Qdrant is unknown."""
    payload_fingerprint: str | None = None
    """For FAILED: the payload in Qdrant, where no older one is left, though the vector may be of an older text."""
    chunks: int = 0
    error: str | None = None
    heal_after_s: float | None = None
    """For FAILED with a transient cause: seconds until the automatic retry."""
    request_error: str | None = None
    """The error reported under the task ids that requested this item. None is success."""
    doubtful: bool = False
    """In doubt: a write may have reached Qdrant, or may still reach it, with unknown result."""
    recheck_after_s: float | None = None
    """Seconds until the delayed verification of an item that should have no point: a late write may have made one."""
    how: How = "embedded"
    """What the work consisted of, where a point is in Qdrant."""

    @property
    def event(self) -> ItemEvent | None:
        """What receivers of events are told. None: nothing that they were told has changed."""
        if self.outcome == "FAILED":
            return "item.failed"
        if self.outcome == "COMPLETED" and self.chunks:
            return None if self.how == "skipped" else "item.searchable"
        was_told = self.item.chunks > 0 or self.item.tries_since_failed > 0
        return "item.deleted" if was_told else None


@dataclass(frozen=True, slots=True)
class Postponed:
    """An item that is tried again later."""

    item: ClaimedItem
    wait_s: float
    reason: str
    counts: bool = True
    """False: the attempt is not counted."""
    doubtful: bool = False
    """In doubt: a write may have reached Qdrant."""
    seen_token: int = 0
    """A higher token that was found in Qdrant."""
    begun_chunks: int | None = None
    """Number of chunks of an item that is written in part. The next claim continues from there."""
    begun_upto: int | None = None
    """All chunks before this one are written."""
    chunk_tokens: int | None = None
    """A chunk was too long for the provider: no chunk may hold more tokens than this."""
    cause: Cause = "error"
    """The reason as the metrics label it."""
    marks: bool = False
    """The item needs nothing but its embedding."""
    payload_fingerprint: str | None = None
    """Of the payload that was written beside the vector of an older text. None: none was written."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one reindex request: its task id, and the error if it failed."""

    task_id: str
    item_id: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """The finished items that the claim still held, and the outcomes of their reindex requests."""

    item_ids: tuple[str, ...]
    ages_s: tuple[float | None, ...]
    """Seconds from the commit of each item's oldest change, in the order of `item_ids`. None: no change led to the
    claim."""
    answers: tuple[Answer, ...]
    crashed: bool = False
    """Nothing is settled: the server may have been restarted since the claim, and may have lost what was read."""


def finish(connection: Connection, claim: Claim, finished: Sequence[Finished]) -> Settled:
    """Record outcomes, delete due rows except of items that changed meanwhile, and answer reindex requests."""
    if not finished:
        return Settled((), (), ())
    rows = connection.execute(
        load("settle.sql")["finish"],
        {
            "source": claim.source,
            "generation": claim.generation,
            "token": claim.token,
            "claimed_at": claim.claimed_at,
            "revision": REVISION,
            "item_ids": [f.item.item_id for f in finished],
            "versions": [f.item.version for f in finished],
            "promotions": PROMOTION_LOCKS,
            "channel": RELEASE_CHANNEL,
            "deletes": any(f.outcome == "DELETED" for f in finished),
            "outcomes": [f.outcome for f in finished],
            "text_fingerprints": [f.text_fingerprint for f in finished],
            "payload_fingerprints": [f.payload_fingerprint for f in finished],
            "chunks": [f.chunks for f in finished],
            "attempts": [f.item.attempts for f in finished],
            "errors": [f.error for f in finished],
            "heal_after_s": [f.heal_after_s for f in finished],
            "request_errors": [f.request_error for f in finished],
            "losses": [f.item.losses if f.outcome == "FAILED" else 0 for f in finished],
            "doubtful": [f.item.doubtful or f.doubtful for f in finished],
            "recheck_after_s": [f.recheck_after_s for f in finished],
            "events": [f.event for f in finished],
        },
        prepare=keep_plan(len(finished)),
    ).fetchall()
    if any(item_id is None for item_id, *_ in rows):
        return Settled((), (), (), crashed=True)
    held = [(str(item_id), age_s) for item_id, age_s, task_id, _ in rows if task_id is None]
    return Settled(
        tuple(item_id for item_id, _ in held),
        tuple(age_s for _, age_s in held),
        tuple(Answer(task_id, item_id, error) for item_id, _, task_id, error in rows if task_id is not None),
    )


def postpone(connection: Connection, claim: Claim, postponed: Sequence[Postponed]) -> None:
    """Return items to the queue, to be claimed again after their waits. Records what was already written of them."""
    if not postponed:
        return
    connection.execute(
        load("settle.sql")["postpone"],
        {
            "source": claim.source,
            "generation": claim.generation,
            "token": claim.token,
            "revision": REVISION,
            "item_ids": [p.item.item_id for p in postponed],
            "versions": [p.item.version for p in postponed],
            "waits_s": [p.wait_s for p in postponed],
            "reasons": [p.reason for p in postponed],
            "attempts_back": [0 if p.counts else 1 for p in postponed],
            "doubtful": [p.doubtful for p in postponed],
            "seen_tokens": [p.seen_token for p in postponed],
            "chunk_tokens": [p.chunk_tokens for p in postponed],
            "claimed_at": claim.claimed_at,
            "marks": [p.marks for p in postponed],
            "payload_fingerprints": [p.payload_fingerprint for p in postponed],
            "begun_chunks": [p.begun_chunks for p in postponed],
            "begun_upto": [p.begun_upto for p in postponed],
        },
        prepare=keep_plan(len(postponed)),
    )
