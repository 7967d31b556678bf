"""What a provider tells of its rate limit, and what a process knows of its turn in it. Plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_RESET_S = 61.0
"""A limit whose bucket is full again later than that is not one a minute: some accounts have limits a day."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Bucket:
    """What an answer tells of requests or of tokens."""

    per_minute: float | None
    """None: there is no such limit, or it is not one a minute."""
    left: float | None
    """What may still be used at once."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the headers of one answer tell; None: nothing."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """What was set, a minute. None: only what the provider tells counts."""

    requests: float | None = None
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Leave to send one request."""

    wait_s: float = 0.0
    """Until then; who waits asks again before it sends."""
    tokens: int = 0
    """As they were estimated."""
    charged: float = 0.0
    """Tokens that the budget took for it."""
    live: bool = True
    limited: bool = False
    """False: no limit is known."""
    epoch: int = 0
    """Turns of an earlier one are void: a 429 came since."""
    at: float = 0.0
    """When it may be sent, by the clock of who keeps the budget."""


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """A budget at present. None: not known, or no limit."""

    requests_per_minute: float | None
    """The present rate; lower than the limit for a while after a 429."""
    tokens_per_minute: float | None
    requests_limit: float | None
    """As set or told, whichever is lower."""
    tokens_limit: float | None
    requests_left: float | None
    """As the provider last told."""
    tokens_left: float | None
    queue_s: float
    """How long a request of a backfill would wait for its turn now."""
    blocked_s: float
    """How long nobody may ask, because the provider said so."""


def account(base_url: str | None, api_key: str | None, model: str) -> str:
    """The name of what shares one limit: a hash, so that the key stands nowhere in clear."""
    return hashlib.sha256(json.dumps([base_url, api_key, model]).encode()).hexdigest()[:32]


def told_by(headers: Mapping[str, str]) -> Told | None:
    """What OpenAI's headers `x-ratelimit-…` tell; None where there are none of them."""
    requests, tokens = (_bucket(headers, kind) for kind in ("requests", "tokens"))
    return Told(requests, tokens) if requests or tokens else None


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
    """Seconds of a duration in OpenAI's form, `6m0s`, `20ms`, or of a bare number; None if it is neither."""
    if (bare := _number(text)) is not None:
        return bare
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    return sum(float(part) * unit_s for part, unit_s in zip(found.groups("0"), (3600, 60, 1, 0.001), strict=True))
