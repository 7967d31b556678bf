"""Rate limiting: requests wait for a slot in the provider's rate limit, edits and searches before backfills.

Waiting for a slot does not count toward the request's timeout. The caller checks again before sending, because another
process may have received a 429 in between, which holds for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from reindexer.core.errors import NoTurn, RateLimited
from reindexer.core.rate_limit import RateLimitState, Told, Turn
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.tokens import estimate_tokens
from reindexer.monitoring.buffer import Tally
from reindexer.monitoring.metrics import PROVIDER_TURN
from reindexer.ports import Budget, Embedder, Embedding

PATIENCE_S = 2.0
"""A request whose slot is further away gives up its place: the worker also serves edits, and work that is not
limited."""
REQUEST_S = 2.0
"""One request takes at most what the rate grants in this time, so that others do not wait long behind it."""


class Unlimited:
    """A `Budget` without limits."""

    @property
    def tokens_per_s(self) -> float | None:
        """See `reindexer.ports.Budget`."""
        return None

    def reserve(self, tokens: int, *, live: bool, most_s: float, held: Turn | None = None) -> Turn:  # noqa: ARG002
        """See `reindexer.ports.Budget`."""
        return Turn(tokens=tokens, live=live)

    def settle(self, turn: Turn, tokens: int, told: Told | None) -> None:
        """See `reindexer.ports.Budget`."""

    def limited(self, turn: Turn, retry_after_s: float | None, told: Told | None) -> None:
        """See `reindexer.ports.Budget`."""

    def state(self) -> RateLimitState | None:
        """See `reindexer.ports.Budget`."""
        return None


class Pace:
    """The rate limit as one claim, or one search, sees it."""

    def __init__(
        self, budget: Budget, tally: Tally | None, purpose: str, *, live: bool, patience_s: float = PATIENCE_S
    ) -> None:
        """`patience_s`: how long a request waits for its slot. 0: never, because work that needs no slot would wait
        behind it."""
        self.patience_s = patience_s
        self.is_tight = False
        """A request had to wait, or was denied."""
        self._budget = budget
        self._tally = tally
        self._purpose = purpose
        self._live = live

    def shape(self, limits: RequestLimits) -> RequestLimits:
        """Return the limits of one request under the rate."""
        rate = self._budget.tokens_per_s
        return limits if rate is None else replace(limits, max_tokens=min(limits.max_tokens, int(rate * REQUEST_S)))

    def wait(self, texts: Sequence[str], patience_s: float) -> Turn:
        """Wait for the slot of one request. Raises RateLimited if it does not come in time, or NoTurn if `patience_s`
        is 0.

        If it raises, nothing is reserved. Slots are reserved for the next moments only, so a caller with more patience
        asks again.
        """
        tokens = sum(map(estimate_tokens, texts))
        until = time.monotonic() + patience_s
        turn: Turn | None = None
        while turn is None or turn.wait_s > 0:
            left_s = max(0.0, until - time.monotonic())
            try:
                turn = self._budget.reserve(tokens, live=self._live, most_s=min(left_s, PATIENCE_S), held=turn)
                self._sleep(turn.wait_s)
            except RateLimited as exc:
                self.is_tight = True
                if patience_s <= 0:
                    raise NoTurn(str(exc), retry_after_s=exc.retry_after_s) from exc
                turn, wait_s = None, exc.retry_after_s or PATIENCE_S
                if patience_s <= PATIENCE_S or wait_s > left_s:
                    raise
                self._sleep(wait_s)
        return turn

    @contextmanager
    def taken(self, turn: Turn) -> Iterator[Callable[[Embedding], None]]:
        """Context of the request. The yielded function must be called with the request's answer."""
        try:
            yield lambda embedding: self._budget.settle(turn, embedding.tokens, embedding.told)
        except RateLimited as exc:
            self.is_tight = True
            self._budget.limited(turn, exc.retry_after_s, exc.told)
            raise

    def _sleep(self, wait_s: float) -> None:
        if wait_s > 0:
            self.is_tight = True
            if self._tally is not None:
                self._tally.add(PROVIDER_TURN, wait_s, purpose=self._purpose)
            time.sleep(wait_s)


class PacedEmbedder:
    """An `Embedder` for searches. Each search waits for a slot within its own timeout, before all backfills."""

    def __init__(self, embedder: Embedder, budget: Budget, tally: Tally | None = None) -> None:
        self._embedder = embedder
        self._pace = Pace(budget, tally, "queries", live=True)

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
        until = time.monotonic() + timeout_s
        turn = self._pace.wait(texts, min(PATIENCE_S, timeout_s / 2))
        with self._pace.taken(turn) as answered:
            embedding = self._embedder.embed(texts, timeout_s=until - time.monotonic())
            answered(embedding)
        return embedding
