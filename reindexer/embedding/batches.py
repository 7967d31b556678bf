"""Embed texts in as few requests as the limits allow. One bad input is found by bisection."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reindexer.core.errors import (
    DependencyUnavailable,
    InputRejected,
    NotAsked,
    OutOfQuota,
    OverBudget,
    RateLimited,
    ReindexerError,
    SourceError,
    TooManyInputs,
    TransientError,
)
from reindexer.core.text.batching import HARMLESS, pack
from reindexer.core.text.tokens import estimate_tokens
from reindexer.embedding.decorators import ClaimEmbedder
from reindexer.embedding.rate_limit import PATIENCE_S
from reindexer.ports import Vector
from reindexer.queue.lease import LeaseExpired, RequestWindow

MOST_SEARCHES = 4
"""Maximum searches per claim for inputs on which the provider fails. Where there are more, the provider is the likelier
cause."""


@dataclass(frozen=True, slots=True)
class Input:
    """One text that has to be embedded."""

    text: str
    """Without its lead."""
    fingerprint: str
    """Covers everything that the vector depends on: inputs with the same fingerprint get the same vector."""
    group: int = 0
    """Inputs of one group are useful only together. Once an item has its first vectors, its other inputs may wait
    longer."""
    tried: bool = False
    """An earlier request with this input failed, so the input may be the cause."""
    lead: str = ""
    """What is sent in front of the text."""

    @property
    def sent(self) -> str:
        """What the provider gets."""
        return self.lead + self.text  # guard document-prefix-sent


def embed_inputs(
    embedder: ClaimEmbedder, inputs: Sequence[Input], fails: Callable[[Input, ReindexerError], None]
) -> Mapping[str, Vector]:
    """Return vectors by fingerprint. `fails` is called for each input that can't have one.

    Stops when the time for embedding is over, and when the provider does not answer. The remaining inputs then have
    neither a vector nor a failure. Raises LeaseExpired if no vector was obtained in time.

    A request that fails for reasons other than its content fails its inputs. A request refused for its content is
    searched for the bad input by bisection. The inputs that the search passed over then go into one common request, so
    that a search takes about log2(n) + 2 more requests. A request that fails repeatedly, while the provider accepts
    other input, is searched in the same way. A request for which too little is left of a budget is halved until it
    fits, or holds one input.
    """
    if not inputs:
        return {}
    requests = _Requests(embedder, embedder.begin(), fails)
    counts = {each.fingerprint: estimate_tokens(each.sent) for each in inputs}
    waiting, most = list(inputs), len(inputs)
    try:
        while waiting:  # the limits of a request change with each answer
            limits = embedder.limits
            first = next(pack([counts[each.fingerprint] for each in waiting[: limits.max_inputs]], limits))
            batch = waiting[: min(first.stop, most)]
            del waiting[: len(batch)]
            error = requests.send(batch)
            if isinstance(error, OverBudget):  # guard budget-smaller-request
                waiting[:0], most = batch, len(batch) // 2
            elif isinstance(error, TooManyInputs) and len(batch) > embedder.limits.max_inputs:
                waiting[:0] = batch
            elif error is not None:
                waiting += requests.isolate(batch, error)
    except LeaseExpired:
        if not requests.vectors:  # guard lease-partial-batch-write
            raise
    return requests.vectors


class _Requests:
    """Sends requests, and keeps the returned vectors."""

    def __init__(
        self, embedder: ClaimEmbedder, window: RequestWindow, fails: Callable[[Input, ReindexerError], None]
    ) -> None:
        self._embedder = embedder
        self._window = window
        self._fails = fails
        self._ended_by: DependencyUnavailable | SourceError | NotAsked | None = None
        """Why no further request is sent."""
        self._searches = 0
        self._begun: set[int] = set()
        self.vectors: dict[str, Vector] = {}

    def send(self, batch: Sequence[Input]) -> ReindexerError | None:
        """Send one request. Returns the error if one of its inputs may be to blame, or if fewer of them may be within
        the budget; any other error fails the batch.

        Sends nothing once the provider gave no answer or refused everything, or nothing can be set aside. The latter
        two also fail the batch.
        """
        if self._ended_by is not None:
            if isinstance(self._ended_by, SourceError | NotAsked):
                self._fail(batch, self._ended_by)
            return None
        began = time.monotonic()
        try:
            embedding = self._embedder.embed(
                [each.sent for each in batch], self._window, patience_s=self._patience_s(batch)
            )
        except InputRejected as exc:  # guard bisect-refused-input
            return exc
        except OverBudget as exc:
            if len(batch) > 1 and not self._searches:
                return exc
            self._ended_by = exc
            self._fail(batch, exc)
        except ReindexerError as exc:
            if self._may_be_one_of(batch, exc, time.monotonic() - began):  # guard bisect-repeated-failure
                return exc
            if isinstance(exc, DependencyUnavailable | SourceError | NotAsked):
                self._ended_by = exc  # guard breaker-claim-stops-asking
            self._fail(batch, exc)
        else:
            self.vectors |= {each.fingerprint: v for each, v in zip(batch, embedding.vectors, strict=True)}
            self._begun |= {each.group for each in batch}
        return None

    def _fail(self, batch: Sequence[Input], error: ReindexerError) -> None:
        for each in batch:
            self._fails(each, error)

    def _may_be_one_of(self, batch: Sequence[Input], error: ReindexerError, took_s: float) -> bool:
        """Whether the provider fails on an input of this batch: an earlier request failed too, and a harmless text
        succeeds.

        False where the provider was slow, because it may be overloaded.
        """
        if not isinstance(error, TransientError) or isinstance(error, RateLimited | OutOfQuota | NotAsked):
            return False
        if len(batch) == 1 or not any(each.tried for each in batch) or self._searches >= MOST_SEARCHES:
            return False
        if isinstance(error, DependencyUnavailable) and took_s > self._window.next_s() / 4:
            return False
        try:
            self._embedder.embed([HARMLESS], self._window, patience_s=PATIENCE_S)
        except ReindexerError:  # guard bisect-not-provider-outage
            return False
        return True

    def _patience_s(self, batch: Sequence[Input]) -> float | None:
        """How long the batch may wait for the rate limiter. The rest of an item that is begun waits as long as the
        claim can, because half an item's vectors would be wasted."""
        # guard rate-limit-begun-item-patience
        return math.inf if any(each.group in self._begun for each in batch) else None

    def isolate(self, batch: Sequence[Input], error: ReindexerError) -> Sequence[Input]:
        """Find one refused input of a refused batch and fail it. Returns the inputs about which nothing is known yet.

        Only an input that was refused alone is failed, because a request can be refused for its size too.
        """
        self._searches += 1
        suspects, unknown, refused_alone = list(batch), list[Input](), len(batch) == 1
        while len(suspects) > 1:
            half = len(suspects) // 2
            first, second = suspects[:half], suspects[half:]
            refused = self.send(first)
            if refused is None:
                suspects, refused_alone = second, False
            else:
                suspects, unknown, refused_alone, error = first, unknown + second, half == 1, refused
        if refused_alone or (refused := self.send(suspects)) is not None:
            self._fails(suspects[0], error)
        return unknown
