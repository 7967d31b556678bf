"""`RateLimiter` (the rate limiter) in Redis: one for all processes of all hosts that use the same account.

Each call is one run of `redis_rate_limiter.lua`, by that server's clock. It fails open: if Redis does not answer at
once, there is no rate limiter for `AWAY_S`, and each worker handles 429 by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from reindexer.adapters.redis_client import connect_redis
from reindexer.core.broker_url import BrokerUrl
from reindexer.core.errors import RateLimited
from reindexer.core.rate_limit import AdvertisedLimits, Caps, RateLimitState, Reservation
from reindexer.ports import Jitter

log = structlog.get_logger(__name__)

ANSWER_S = 0.25  # guard redis-rate-limit-timeout
"""The timeout of Redis for connecting, and for one answer."""
AWAY_S = 5.0
"""How long Redis is left alone after it did not answer."""
AGAIN_S = 0.05
"""The shortest wait of a refused caller before it asks again."""


class RateLimiterServer:
    """The Redis of all rate limiters of this process. Made without connecting; connects once per process."""

    def __init__(self, server: BrokerUrl, keys: str) -> None:
        """`keys`: the prefix of the keys in Redis."""
        # A connection that the server closed in the meantime is reopened, once.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        options = {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}
        self._client = connect_redis(server, retry=retry, decode_responses=True, **options)
        self._keys = keys
        self._script = self._client.register_script(
            Path(__file__).with_name("redis_rate_limiter.lua").read_text("utf-8")
        )
        self._away_until = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def run(self, account: str, step: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Run one step of the script. None: the rate limiter is unavailable now."""
        if time.monotonic() < self._away_until:
            return None
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            answer: dict[str, Any] = json.loads(
                self._script(keys=[self._keys + account], args=[step, json.dumps(given)])
            )
        except (RedisError, OSError, ValueError) as exc:
            self._away_until = time.monotonic() + AWAY_S
            log.warning("rate_limiter_unavailable", error=type(exc).__name__)
            return None
        return answer


class RedisRateLimiter:
    """The rate limiter of one account."""

    def __init__(
        self, server: RateLimiterServer, account: str, caps: Caps, jitter: Jitter, unsaid_wait_s: float
    ) -> None:
        """`unsaid_wait_s`: how long nobody sends after a 429 without a Retry-After."""
        self._server = server
        self._account = account
        self._caps = {"cap_requests": caps.requests, "cap_tokens": caps.tokens}
        self._jitter = jitter
        self._unsaid_wait_s = unsaid_wait_s
        self._tokens_per_s: float | None = caps.tokens / 60 if caps.tokens else None

    @property
    def tokens_per_s(self) -> float | None:
        """See `reindexer.ports.RateLimiter.tokens_per_s`."""
        return self._tokens_per_s

    def reserve(self, tokens: int, *, live: bool, most_s: float, held: Reservation | None = None) -> Reservation:
        """See `reindexer.ports.RateLimiter.reserve`."""
        answer = self._run(
            "reserve", tokens=tokens, live=live, most_s=most_s, epoch=held.epoch if held and held.limited else None
        )
        if answer is None:
            return Reservation(tokens=tokens, live=live)
        if held is not None and answer.get("stands"):
            return replace(held, wait_s=0.0)
        self._tokens_per_s = answer.get("tokens_per_s")
        if answer.get("refused"):
            # Retry when half of the queue is gone, with jitter, and never before the provider may be asked.
            wait_s = max(answer["wait_s"] - most_s / 2, AGAIN_S) * (1 + self._jitter() / 4)
            raise RateLimited(
                "it waits for its reservation in the embedding provider's rate limit", retry_after_s=wait_s
            )
        return Reservation(
            answer["wait_s"], tokens, answer["charged"], live, answer["limited"], answer["epoch"], answer["at"]
        )

    def settle(self, reservation: Reservation, tokens: int, advertised: AdvertisedLimits | None) -> None:
        """See `reindexer.ports.RateLimiter.settle`. Makes no call where there is nothing to report."""
        if reservation.limited or advertised is not None:
            self._run(
                "settle", tokens=tokens, estimate=max(reservation.tokens, 1), live=reservation.live,
                epoch=reservation.epoch, charged=reservation.charged if reservation.limited else None,
                **_advertised(advertised),
            )  # fmt: skip

    def limited(
        self, reservation: Reservation, retry_after_s: float | None, advertised: AdvertisedLimits | None
    ) -> None:
        """See `reindexer.ports.RateLimiter.limited`."""
        wait_s = self._unsaid_wait_s if retry_after_s is None else retry_after_s
        answer = self._run(
            "limited",
            at=reservation.at,
            limited=reservation.limited,
            retry_after_s=wait_s,
            charged=reservation.charged,
            **_advertised(advertised),
        )
        if answer is not None and answer["halved"]:
            log.warning("rate_limit_halved", blocked_s=round(answer["blocked_s"], 3))

    def state(self) -> RateLimitState | None:
        """See `reindexer.ports.RateLimiter.state`."""
        answer = self._run("look")
        if answer is None:
            return None
        return RateLimitState(**{name: answer.get(name) for name in RateLimitState.__dataclass_fields__})  # type: ignore[arg-type]

    def _run(self, step: str, **arguments: Any) -> dict[str, Any] | None:
        return self._server.run(self._account, step, self._caps | arguments)


def _advertised(advertised: AdvertisedLimits | None) -> dict[str, Any]:
    if advertised is None:
        return {}
    buckets = {"requests_advertised": advertised.requests, "tokens_advertised": advertised.tokens}
    return {
        name: {part: value for part, value in asdict(bucket).items() if value is not None}
        for name, bucket in buckets.items()
        if bucket is not None
    }
