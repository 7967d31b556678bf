"""Requests as spans: FastAPI makes them, where this process has traces; here is what they leave out."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send

from reindexer.tracing import current

UNTOLD = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds, by machines."""


def _is_untold(scope: MutableMapping[str, Any]) -> bool:
    return str(scope["path"]).removeprefix(str(scope.get("root_path", ""))) in UNTOLD


TELEMETRY: TelemetryConfig = {
    "exclude": _is_untold,
    "auto_configure": False,  # `reindexer.tracing` does it, for every process
    "operation_spans": False,
    "metrics": False,
    "logs": False,  # they hold the texts of errors
}


class Traced:
    """Takes the query string out of the request's span, and gives the log lines of the request its trace's id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if (trace_id := current.trace_id()) is None:
            await self.app(scope, receive, send)
            return
        if scope.get("query_string"):
            trace.get_current_span().set_attribute("url.query", "REDACTED")  # guard trace-no-query
        with structlog.contextvars.bound_contextvars(trace_id=trace_id):
            await self.app(scope, receive, send)
