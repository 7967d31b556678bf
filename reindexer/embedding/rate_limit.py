"""Rate limiting: requests wait for a slot in the provider's rate limit, edits and searches before backfills.

Waiting for a slot does not count toward the request's timeout. The caller checks again before sending, because another
process may have received a 429 in between, which holds for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from reindexer.core.errors import NoReservation, RateLimited
from reindexer.core.rate_limit import AdvertisedLimits, RateLimitState, Reservation
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.tokens import estimate_tokens
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import RATE_LIMIT_WAIT
from reindexer.ports import Embedding, RateLimiter

PATIENCE_S = 2.0
"""A request whose slot is further away gives up its place: the worker also serves edits, and work that is not
limited."""
REQUEST_S = 2.0
"""One request takes at most what the rate grants in this time, so that others do not wait long behind it."""


class Unlimited:
    """A `RateLimiter` without limits."""

    @property
    def tokens_per_s(self) -> float | None:
        """See `reindexer.ports.RateLimiter`."""
        return None

    def reserve(self, tokens: int, *, live: bool, most_s: float, held: Reservation | None = None) -> Reservation:  # noqa: ARG002
        """See `reindexer.ports.RateLimiter`."""
        return Reservation(tokens=tokens, live=live)

    def settle(self, reservation: Reservation, tokens: int, advertised: AdvertisedLimits | None) -> None:
        """See `reindexer.ports.RateLimiter`."""

    def limited(
        self, reservation: Reservation, retry_after_s: float | None, advertised: AdvertisedLimits | None
    ) -> None:
        """See `reindexer.ports.RateLimiter`."""

    def state(self) -> RateLimitState | None:
        """See `reindexer.ports.RateLimiter`."""
        return None


class Throttle:
    """The rate limit as one claim, or one search, sees it."""

    def __init__(
        self,
        rate_limiter: RateLimiter,
        metrics: MetricsBuffer | None,
        purpose: str,
        *,
        live: bool,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`patience_s`: how long a request waits for its slot. 0: never, because work that needs no slot would wait
        behind it."""
        self.patience_s = patience_s
        self.is_tight = False
        """A request had to wait, or was denied."""
        self._rate_limiter = rate_limiter
        self._metrics = metrics
        self._purpose = purpose
        self._live = live

    def shape(self, limits: RequestLimits) -> RequestLimits:
        """Return the limits of one request under the rate."""
        rate = self._rate_limiter.tokens_per_s
        return limits if rate is None else replace(limits, max_tokens=min(limits.max_tokens, int(rate * REQUEST_S)))

    def wait(self, texts: Sequence[str], patience_s: float) -> Reservation:
        """Wait for the slot of one request. Raises RateLimited if it does not come in time, or NoReservation if
        `patience_s` is 0.

        If it raises, nothing is reserved. Slots are reserved for the next moments only, so a caller with more patience
        asks again.
        """
        tokens = sum(map(estimate_tokens, texts))
        until = time.monotonic() + patience_s
        reservation: Reservation | None = None
        while reservation is None or reservation.wait_s > 0:
            left_s = max(0.0, until - time.monotonic())
            try:
                reservation = self._rate_limiter.reserve(
                    tokens, live=self._live, most_s=min(left_s, PATIENCE_S), held=reservation
                )
                self._sleep(reservation.wait_s)
            except RateLimited as exc:
                self.is_tight = True
                if patience_s <= 0:
                    raise NoReservation(str(exc), retry_after_s=exc.retry_after_s) from exc
                reservation, wait_s = None, exc.retry_after_s or PATIENCE_S
                if patience_s <= PATIENCE_S or wait_s > left_s:
                    raise
                self._sleep(wait_s)
        return reservation

    @contextmanager
    def taken(self, reservation: Reservation) -> Iterator[Callable[[Embedding], None]]:
        """Context of the request. The yielded function must be called with the request's answer."""
        try:
            yield lambda embedding: self._rate_limiter.settle(reservation, embedding.tokens, embedding.advertised)
        except RateLimited as exc:
            self.is_tight = True
            self._rate_limiter.limited(reservation, exc.retry_after_s, exc.advertised)
            raise

    def _sleep(self, wait_s: float) -> None:
        if wait_s > 0:
            self.is_tight = True
            if self._metrics is not None:
                self._metrics.add(RATE_LIMIT_WAIT, wait_s, purpose=self._purpose)
            time.sleep(wait_s)
