"""The trace that a piece of work belongs to: the span that is current where it begins."""

from __future__ import annotations

import sys
from contextvars import ContextVar

from reindexer.core.trace import place_of

_given: ContextVar[str | None] = ContextVar("traceparent", default=None)


def traceparent() -> str | None:
    """The traceparent of the current span, in a process that has loaded OpenTelemetry; else the one that was given.
    None: there is none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return _given.get()
    span = api.get_current_span().get_span_context()
    if not span.is_valid:
        return _given.get()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"


def trace_id() -> str | None:
    """The id of the current span's trace, in 32 hexadecimal digits; None: there is none, or it is not recorded."""
    place = place_of(traceparent())
    return place.trace_id if place else None


def give(traceparent: str | None) -> None:
    """All that this context does belongs to this trace. For a command, which gets it in the variable TRACEPARENT."""
    if place_of(traceparent) is not None:
        _given.set(traceparent)
