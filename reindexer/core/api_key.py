"""API keys: what one looks like, what it allows, and the conditions that it forces on searches. Pure functions."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Literal, get_args

from reindexer.core.errors import UsageError
from reindexer.core.filters import AnyOf, Condition, Filter, parse_filter, parse_words
from reindexer.core.payload import PayloadColumn

Role = Literal["search", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

KEY_BYTES = 32
"""Random bytes of a key. So many can't be guessed, so a plain hash protects them."""

_KEY = re.compile(r"rdx_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_DURATION = re.compile(r"(\d{1,6})([mhd])")
_UNIT_S: Mapping[str, int] = {"m": 60, "h": 3600, "d": 86400}
MAX_EXPIRES_S = 3650 * 86400.0


@dataclass(frozen=True, slots=True)
class Access:
    """What a request may do."""

    role: Role
    name: str | None = None
    """Of its key. None: the key of the setting, or none at all."""
    source: str | None = None
    """The only source that it may search. None: all."""
    filter: Mapping[str, Any] = field(default_factory=dict)
    """Values that rows must have in payload columns."""


def key_of(random: bytes) -> str:
    """Return a key made of `KEY_BYTES` random bytes. Its beginning tells tools that look for leaked keys what it is."""
    return "rdx_" + urlsafe_b64encode(random).rstrip(b"=").decode()


def is_key(text: str) -> bool:
    """Whether a text has the form of a key of ours."""
    return _KEY.fullmatch(text) is not None


def key_hash(key: str) -> bytes:
    """Return what is stored of a key."""
    return sha256(key.encode()).digest()  # guard key-hash-whole


def same(given: bytes, wanted: bytes) -> bool:
    """Whether a key, or its hash, is the wanted one. Takes the same time wherever they differ."""
    return compare_digest(given, wanted)  # guard api-key-constant-time


def require_name(name: str, what: str = "a key") -> None:
    """Raises UsageError if it can't be the name of a key, or of what else is named as keys are."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{what}'s name has 1 to 100 letters, digits and . _ @ -, and begins with a letter or a digit")


def duration_s(text: str) -> float:
    """Return the seconds of `90m`, `12h` or `30d`. Raises UsageError."""
    if (found := _DURATION.fullmatch(text.strip())) is None:
        raise UsageError("a key expires after minutes, hours or days: 90m, 12h or 30d")
    number, unit = found.groups()
    return int(number) * float(_UNIT_S[unit])


def forced_filter(wanted: Mapping[str, Any], columns: Sequence[PayloadColumn]) -> Filter:
    """Return the conditions of a key. Raises UsageError if a column is gone, or can't hold its value any more."""
    return tuple(_one_value(condition) for condition in parse_filter(wanted, columns))


def parse_forced(words: Sequence[str], columns: Sequence[PayloadColumn]) -> dict[str, Any]:
    """Parse the command line's form, `tenant=acme`, to what a key stores. Raises UsageError."""
    forced: dict[str, Any] = {}
    for word in words:
        (condition,) = map(_one_value, parse_words([word], columns))
        column = word.partition("=")[0].strip()
        if column in forced:
            raise UsageError(f"the filter names {column!r} twice, and a key forces one value")
        (value,) = condition.test.values if isinstance(condition.test, AnyOf) else ()
        forced[column] = value if isinstance(value, str | int | float) else value.isoformat()
    return forced


def _one_value(condition: Condition) -> Condition:
    """The condition, if it is equality with one value."""
    if condition.negated or not isinstance(condition.test, AnyOf) or len(condition.test.values) != 1:
        raise UsageError("the filter of a key is column=value: one value, no list, null or comparison")
    return condition
