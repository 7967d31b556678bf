"""Settle: record what became of a claim's items, as far as the claim still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reindexer.core.items import ClaimedItem
from reindexer.postgres.connect import Connection, keep_plan
from reindexer.postgres.queries import load
from reindexer.postgres.schema import REVISION
from reindexer.queue.claim import Claim

How = Literal["embedded", "payload", "skipped"]
Cause = Literal["error", "rate_limited", "provider", "fenced", "source", "late", "postgres", "too_long"]
Outcome = Literal["COMPLETED", "FAILED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Finished:
    """The item's work is over."""

    item: ClaimedItem
    outcome: Outcome
    text_fingerprint: str | None = None
    """None where what lies in Qdrant is not known."""
    payload_fingerprint: str | None = None
    """FAILED: where no older payload stays in Qdrant either, though an older text may."""
    chunks: int = 0
    error: str | None = None
    heal_after_s: float | None = None
    """FAILED for a passing cause: when it is tried again."""
    request_error: str | None = None
    """What those are told who asked for this item by a task id; None is success."""
    doubtful: bool = False
    """A write may have reached Qdrant, or may still, of which nothing is known."""
    recheck_after_s: float | None = None
    """No point may be there: when to look again for what a late write made."""
    how: How = "embedded"
    """What it took, where a point is in Qdrant."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """The item is tried again later."""

    item: ClaimedItem
    wait_s: float
    reason: str
    counts: bool = True
    """False: the attempt is given back."""
    doubtful: bool = False
    """A write may have reached Qdrant."""
    seen_token: int = 0
    """A higher token that was met in Qdrant."""
    begun_chunks: int | None = None
    """Some of so many chunks were written; the next claim goes on from there."""
    begun_upto: int | None = None
    """All before this one are there."""
    chunk_tokens: int | None = None
    """A chunk was too long for the provider: none may hold more than these."""
    cause: Cause = "error"
    """The reason as metrics tell it."""
    marks: bool = False
    """Nothing but its embedding is left to do."""
    payload_fingerprint: str | None = None
    """Of the payload that was written beside the vector of an older text; None: none was."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one wish: its task id, and the error if it failed."""

    task_id: str
    item_id: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What the claim still held of the finished items, and whose wishes that answers."""

    item_ids: tuple[str, ...]
    ages_s: tuple[float | None, ...]
    """Seconds from the commit of each item's oldest change, in the order of `item_ids`; None: it was looked at without
    one."""
    answers: tuple[Answer, ...]
    crashed: bool = False
    """Nothing is settled: the server may have been restarted since the claim, and have lost what was read."""


def finish(connection: Connection, claim: Claim, finished: Sequence[Finished]) -> Settled:
    """Record outcomes; delete due rows, except of items that changed meanwhile; answer wishes."""
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
    """Give items back, to be claimed again after their waits; note what was written of them all the same."""
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
