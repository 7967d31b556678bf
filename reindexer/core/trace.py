"""Traces: the place that a `traceparent` of W3C's Trace Context names, and a piece of work to be told there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01

Attribute: TypeAlias = str | int | float | bool | Sequence[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A span of somebody's, in hexadecimal digits: 32 of its trace, 16 of its own."""

    trace_id: str
    span_id: str

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


def place_of(traceparent: str | None) -> Place | None:
    """Return the place that a traceparent names. None: it names none, or whoever began the trace does not record it."""
    found = _FORM.fullmatch(traceparent or "")
    if found is None or (found[1] == "00" and found[5]):
        return None
    sampled = int(found[4], 16) & _SAMPLED  # guard trace-unsampled
    return Place(found[2], found[3]) if sampled else None


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work that is over, as a span tells it. Times are nanoseconds since 1970."""

    name: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """Names, ids, states and numbers; never text of a row."""
    error: str | None = None
    """Why it failed."""
    parts: Sequence[Work] = ()
