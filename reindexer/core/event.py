"""Events: what receivers are told, and how a webhook is signed (Standard Webhooks). Pure functions."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from reindexer.core.errors import UsageError
from reindexer.core.retry import RetryPolicy

ItemEvent = Literal["item.searchable", "item.deleted", "item.failed"]
EventType = Literal[ItemEvent, "run.finished", "generation.ready"]
TYPES: tuple[str, ...] = (*get_args(ItemEvent), "run.finished", "generation.ready")
"""What a receiver may ask for. `resync` comes unasked."""

RESYNC = "resync"
TEST = "test"

SECRET_BYTES = 32
_SECRET = "whsec_"  # noqa: S105  how each secret begins


@dataclass(frozen=True, slots=True)
class Event:
    """One event as a receiver is told it."""

    number: int
    type: str
    at: datetime
    data: Mapping[str, Any]
    attempts: int = 0
    """How often it was sent without success."""

    @property
    def message_id(self) -> str:
        """The same each time that it is sent. A number may come again after a restore; with the version it does not."""
        return f"msg_{self.number}_{self.data.get('version', 0)}"

    @property
    def body(self) -> bytes:
        """What is sent and signed."""
        told = {"type": self.type, "timestamp": self.at.isoformat().replace("+00:00", "Z"), "data": self.data}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a receiver's webhooks go."""

    url: str
    secrets: Sequence[str] = field(repr=False)
    """Each signs. A receiver that knows one of them takes the message."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait for one receiver. Beyond it, `resync` stands for all of it."""

    most: int
    keep_s: float


@dataclass(frozen=True, slots=True)
class SendingRules:
    """How events are sent."""

    bounds: Bounds
    retry: RetryPolicy
    timeout_s: float


def secret_of(random: bytes) -> str:
    """Return a secret made of `SECRET_BYTES` random bytes."""
    return _SECRET + b64encode(random).decode()


def headers(event: Event, body: bytes, secrets: Sequence[str], now_s: int) -> dict[str, str]:
    """Return the headers of a webhook, signed by each of the secrets. `now_s`: seconds since 1970."""
    signed = f"{event.message_id}.{now_s}.".encode() + body
    return {
        "content-type": "application/json",
        "user-agent": "reindexer",
        "webhook-id": event.message_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(_SECRET))
    return "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()


def require_types(types: Sequence[str]) -> None:
    """Raises UsageError if one of them is no type of event."""
    for each in types:
        if each not in TYPES:
            raise UsageError(f"there is no event {each!r}; events are {', '.join(TYPES)}")


def require_url(url: str) -> None:
    """Raises UsageError if no webhook can be sent there. The message does not hold the URL."""
    try:
        parts = urlsplit(url)
        is_fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError("--url is no URL that a webhook can be sent to; write https://host/path")
    if "@" in parts.netloc:
        raise UsageError("--url holds a user or a password, and webhooks are signed instead; take it out")
