"""The application: `reindexer api`, or in a checkout `uvicorn api.main:app`."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from reindexer import __version__
from reindexer.settings import Settings

from . import problems
from .dependencies import Container
from .limits import BodyLimit
from .page import routes as page
from .page.ending import told_to_end
from .routes import (
    backfills,
    budgets,
    bulk,
    context_items,
    dead_letters,
    events,
    generations,
    health,
    history,
    items,
    metrics,
    pause,
    points,
    reconcile,
    search,
    sources,
    spend,
    status,
    tasks,
    wait,
)
from .startup import StartCheck
from .traced import TELEMETRY, Traced

_DESCRIPTION = """
Keeps embeddings in Qdrant equal to text in Postgres. Routes need `Authorization: Bearer KEY` or `X-API-Key: KEY`, with
the key of `REINDEXER_ADMIN_API_KEY` or one that `reindexer keys create` made. Every error is an RFC 9457
`application/problem+json`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Without `settings` it reads the environment at its start."""
    parts = Container(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Imported modules stay for good: a garbage collection that visits them again costs some request 100 ms.
        gc.collect()
        gc.freeze()
        with told_to_end() as app.state.ending:
            try:
                yield
            finally:
                await run_in_threadpool(parts.close)

    # /docs with its scripts in the package: FastAPI's page loads them from the internet, and stays blank without it.
    app = FastAPIOffline(
        redoc_url=None,
        title="reindexer",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        telemetry=TELEMETRY,
    )
    app.state.parts = parts
    app.add_middleware(BodyLimit)
    problems.install(app)
    app.add_middleware(StartCheck, parts=parts)
    app.add_middleware(Traced)
    admin = (
        bulk,
        backfills,
        generations,
        dead_letters,
        tasks,
        pause,
        items,
        points,
        status,
        sources,
        spend,
        budgets,
        events,
        history,
        reconcile,
    )
    for each in (*admin, search, wait, context_items, health, metrics, page):
        app.include_router(each.router)
    return app


app = create_app()
