"""Refuses a start that can't work: one clear line and exit code 2 if the settings or the schema are wrong.

If Postgres merely does not answer, the API starts, and /readyz reports it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress

import psycopg
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from reindexer import logs, wiring
from reindexer.core.errors import DependencyUnavailable, SourceError, UsageError
from reindexer.index.ownership import require_prefix
from reindexer.postgres.connect import connect, one_line
from reindexer.postgres.schema import require_schema
from reindexer.settings import Settings
from reindexer.tracing import process as tracing

from .dependencies import Container

log = structlog.get_logger(__name__)


def check(parts: Container) -> None:
    """Configure logs and build all parts. Raises UsageError if this process could never serve."""
    settings = parts.settings
    _configure_logs(settings)
    logs.tell_unknown(settings.unknown_variables())
    tracing.publish()
    settings.require_database_url()
    settings.require_broker_url()
    wiring.require_plugins(settings)
    parts.make()
    try:
        with connect(parts.postgres.url, application_name="reindexer api start", timeout_s=3) as connection:
            require_schema(connection)
            with suppress(DependencyUnavailable):  # /readyz reports it
                require_prefix(connection, parts.broker, settings.instance)
    except (DependencyUnavailable, psycopg.OperationalError) as exc:
        log.warning("postgres_unavailable", error=one_line(exc))


def _configure_logs(settings: Settings) -> None:
    """One format for all: uvicorn's loggers lose their own handlers."""
    logs.configure(settings.log_level, settings.log_format)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        if logger.handlers:  # not with --no-access-log
            logger.handlers.clear()
            logger.propagate = True


class StartCheck:
    """Runs the check before the application's lifespan.

    An error inside a lifespan is printed as a traceback, and SystemExit there is swallowed. So the exit is scheduled in
    the event loop. It comes before the server's own exit (code 3), which servers other than uvicorn still get.
    """

    def __init__(self, app: ASGIApp, parts: Container) -> None:
        self.app = app
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            try:
                await run_in_threadpool(check, self.parts)
            except (UsageError, SourceError) as exc:
                sys.stderr.write(f"reindexer api: {exc}\n")
                sys.stderr.flush()
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                asyncio.get_running_loop().call_soon(sys.exit, 2)
                await send({"type": "lifespan.startup.failed", "message": ""})
                return
        await self.app(scope, receive, send)
