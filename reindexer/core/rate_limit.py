"""The rate limits that a provider advertises, and a process's reservation in them. Plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_RESET_S = 61.0
"""A limit whose bucket needs longer than this to refill is not per minute: some accounts have limits per day."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Bucket:
    """The advertised limit of requests or of tokens."""

    per_minute: float | None
    """None: there is no such limit, or it is not per minute."""
    left: float | None
    """How much may still be used at once."""


@dataclass(frozen=True, slots=True)
class AdvertisedLimits:
    """The limits that one answer's headers advertise. None: not advertised."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """Configured limits per minute. None: only the provider's limit applies."""

    requests: float | None = None
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation to send one request."""

    wait_s: float = 0.0
    """Seconds until the request may be sent. A caller that waited must ask again before it sends."""
    tokens: int = 0
    """The estimated tokens."""
    charged: float = 0.0
    """Tokens that the rate limiter charged for the request."""
    live: bool = True
    limited: bool = False
    """False: no limit is known."""
    epoch: int = 0
    """Reservations of an earlier epoch are void, because a 429 came since."""
    at: float = 0.0
    """When the request may be sent, by the clock of the rate limiter."""


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """The present state of a rate limiter. None: unknown, or no limit."""

    requests_per_minute: float | None
    """The present rate. Lower than the limit for a while after a 429."""
    tokens_per_minute: float | None
    requests_limit: float | None
    """The configured or the advertised limit, whichever is lower."""
    tokens_limit: float | None
    requests_left: float | None
    """As the provider last advertised."""
    tokens_left: float | None
    queue_s: float
    """How long a backfill's request would wait for its slot now."""
    blocked_s: float
    """How long no request may be sent, because the provider said so."""


def account(base_url: str | None, api_key: str | None, model: str) -> str:
    """Return the name of everything that shares one limit. A hash, so that the key appears nowhere in clear text."""
    return hashlib.sha256(json.dumps([base_url, api_key, model]).encode()).hexdigest()[:32]


def advertised_limits(headers: Mapping[str, str]) -> AdvertisedLimits | None:
    """Return the limits that OpenAI's headers `x-ratelimit-…` advertise. None if there are no such headers."""
    requests, tokens = (_bucket(headers, kind) for kind in ("requests", "tokens"))
    return AdvertisedLimits(requests, tokens) if requests or tokens else None


def _bucket(headers: Mapping[str, str], kind: str) -> Bucket | None:
    limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
    if limit is None:
        return None
    reset_s = seconds_of(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if limit <= 0 or (reset_s is not None and reset_s > LONGEST_RESET_S):
        return Bucket(None, None)
    return Bucket(limit, _number(headers.get(f"x-ratelimit-remaining-{kind}")))


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d{1,15}(\.\d+)?", text) else None


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration in OpenAI's form (`6m0s`, `20ms`) or of a bare number. None if it is neither."""
    if (bare := _number(text)) is not None:
        return bare
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    return sum(float(part) * unit_s for part, unit_s in zip(found.groups("0"), (3600, 60, 1, 0.001), strict=True))
