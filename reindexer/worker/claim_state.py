"""The state of each item of a claim while the claim is processed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from reindexer.core.errors import (
    InputTooLong,
    NoReservation,
    NotAsked,
    NotThisProcess,
    OverBudget,
    RateLimited,
    ReindexerError,
    SourceError,
    SourceLocked,
    TooSlow,
    TransientError,
)
from reindexer.core.items import ClaimedItem
from reindexer.core.plan import Delete, Embed, Skip, Step, UpdatePayload
from reindexer.core.retry import RetryPolicy
from reindexer.ports import Jitter
from reindexer.queue.claim import Claim
from reindexer.queue.settle import Cause, Finished, How, Outcome, Postponed

SOURCE_WAIT_S = 10.0
"""How long items of a source that can't be worked on wait before the next attempt."""

_HOW: Mapping[type[Step], How] = {Skip: "skipped", UpdatePayload: "payload", Embed: "embedded"}

LEFT_ALONE = "the embedding provider does not answer, and is left alone but for a probe now and then"
TOO_LATE = "its claim ended before its turn came"


class NotNow(NamedTuple):
    """Why a vector can't be had now, where no request failed."""

    reason: str
    cause: Cause
    """The reason as the metrics label it."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why an item's embedding can't be had now, and what was done without it."""

    payload_fingerprint: str
    """The row's. Qdrant holds no other payload of the item."""
    error: ReindexerError | None = None
    """The error of the request. None: no request was made for the item."""
    reason: str = TOO_LATE
    cause: Cause = "late"
    """The reason as the metrics label it."""
    exchanged: str | None = None
    """The payload's fingerprint, if it was written beside the vector of an older text, or with some new chunks."""

    @property
    def may_go_on(self) -> bool:
        """Whether a later claim asks for the embedding again."""
        return self.error is None or isinstance(self.error, TransientError | SourceError)


class Attempt:
    """The state of each item of a claim: open, finished or postponed."""

    def __init__(self, claim: Claim, policy: RetryPolicy, jitter: Jitter, lease_s: float) -> None:
        self.source = claim.source
        self._policy = policy
        self._jitter = jitter
        self._lease_s = lease_s
        self.open: dict[ClaimedItem, None] = dict.fromkeys(claim.items)
        self.finished: list[Finished] = []
        self.postponed: list[Postponed] = []
        self.problem: str | None = None
        """Why the source can't be worked on. None: no such problem was met."""
        self.leaves_source = False
        """This process can't work on the source for a while: one of its tables is locked, or what it takes is another
        worker's."""
        self._begun: dict[ClaimedItem, tuple[int, int | None]] = {}

    def begin(self, item: ClaimedItem, chunks: int, upto: int | None = None) -> None:
        """Record that some of `chunks` points may be written, whatever the result. All before `upto` are written."""
        self._begun[item] = chunks, upto

    def has_begun(self, item: ClaimedItem) -> bool:
        """Whether this claim wrote some points of the item."""
        return item in self._begun

    def complete(self, step: Step) -> None:
        """Finish an item whose points in Qdrant equal its row. A request for a row that does not exist fails,
        though."""
        self.open.pop(step.item)
        if not isinstance(step, Delete):
            prints = (step.text_fingerprint, step.payload_fingerprint)
            chunks = step.item.chunks if isinstance(step, Skip) else len(step.chunks)
            self.finished.append(Finished(step.item, "COMPLETED", *prints, chunks=chunks, how=_HOW[type(step)]))
            return
        doubted_ago_s = 0.0 if step.item.doubtful else step.item.doubted_ago_s
        recheck_after_s = self._policy.recheck_wait_s(doubted_ago_s, self._lease_s)
        if step.row is not None:
            facts = Finished(step.item, "COMPLETED", step.text_fingerprint, step.payload_fingerprint)
        else:
            missing = f"{self.source}: no row with this key"
            outcome: Outcome = "DELETED" if step.item.known or not step.item.forced else "FAILED"
            error = missing if outcome == "FAILED" else None
            facts = Finished(step.item, outcome, error=error, request_error=missing)
        self.finished.append(replace(facts, recheck_after_s=recheck_after_s))

    def fails(self, item: ClaimedItem, error: ReindexerError, *, certain: bool, held: Held | None = None) -> None:
        """Postpone the item, or finish it as FAILED if the error is permanent or the attempts are used up.

        `certain`: nothing was written. `held`: only the item's embedding failed, everything else is done. An error of
        the source as a whole uses no attempt.
        """
        exchanged = held.exchanged if held else None
        if isinstance(error, SourceError):  # guard refusal-source-error-scope
            self.problem = str(error)
            self.leaves_source = isinstance(error, NotThisProcess | SourceLocked)  # guard claim-source-left
            # guard embedder-mismatch-instant-release
            wait_s = 0.0 if isinstance(error, NotThisProcess) else SOURCE_WAIT_S  # others may be able to
            self.postpone(
                Postponed(
                    item, wait_s, str(error), counts=False, doubtful=not certain, cause="source",
                    marks=held is not None, payload_fingerprint=exchanged,
                )
            )  # fmt: skip
            return
        if isinstance(error, InputTooLong) and error.chunk_tokens is not None:  # guard chunk-too-long-recut
            self.postpone(
                Postponed(
                    item, 0.0, f"{error}, so it is cut smaller", counts=False, chunk_tokens=error.chunk_tokens,
                    cause="too_long", payload_fingerprint=exchanged,
                )
            )  # fmt: skip
            return
        payload_print = held.payload_fingerprint if held else None
        if not isinstance(error, TransientError):
            self.fail(item, str(error), certain=certain, payload_fingerprint=payload_print)
            return
        over, limited = isinstance(error, OverBudget), isinstance(error, RateLimited)
        slow = isinstance(error, TooSlow)
        counts = not (limited or slow or isinstance(error, NotAsked))  # guard spend-unasked-no-attempt
        if counts and self._policy.exhausted(item.attempts):
            heal_after_s = self._policy.healing_wait_s(item.tries_since_failed)
            self.fail(item, str(error), certain=certain, heal_after_s=heal_after_s, payload_fingerprint=payload_print)
            return
        wait_s = 0.0 if slow else self._policy.wait_s(item.attempts, self._jitter(), error.retry_after_s)
        cause: Cause = "rate_limited" if limited else "budget" if over else "error"
        if isinstance(error, NoReservation | OverBudget):  # claims leave it alone until it may go on
            wait_s = 0.0
        self.postpone(
            Postponed(
                # guard doubt-unanswered-write
                item, wait_s, str(error), counts=counts, doubtful=not certain,
                cause=cause, marks=held is not None, payload_fingerprint=exchanged,
            )
        )  # fmt: skip

    def hold(self, item: ClaimedItem, held: Held) -> None:
        """Postpone or fail an item for which everything is done but its embedding."""
        if held.error is not None:
            self.fails(item, held.error, certain=True, held=held)
            return
        self.postpone(
            Postponed(
                item, 0.0, held.reason, counts=False, cause=held.cause, marks=True, payload_fingerprint=held.exchanged
            )
        )

    def fail(
        self,
        item: ClaimedItem,
        error: str,
        *,
        certain: bool,
        heal_after_s: float | None = None,
        payload_fingerprint: str | None = None,
    ) -> None:
        """Finish the item as FAILED. No text fingerprint is kept: what Qdrant holds is unknown, or of an older text."""
        self.open.pop(item)
        self.finished.append(
            Finished(item, "FAILED", payload_fingerprint=payload_fingerprint,
                     chunks=max(item.chunks, self._begun.get(item, (0 if certain else 1, 0))[0]), error=error,
                     heal_after_s=heal_after_s, request_error=error, doubtful=not certain)
        )  # fmt: skip

    def doubt(self, reason: str) -> None:
        """Discard everything finished: the items are done again at once, whatever their fingerprints say."""
        self.postponed += [
            Postponed(f.item, 0.0, reason, counts=False, doubtful=True, cause="postgres") for f in self.finished
        ]
        self.finished = []

    def postpone(self, postponed: Postponed) -> None:
        """Postpone the item to a later attempt."""
        self.open.pop(postponed.item)
        chunks, upto = self._begun.get(postponed.item, (None, None))
        self.postponed.append(replace(postponed, begun_chunks=chunks, begun_upto=upto))
