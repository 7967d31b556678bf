"""Warm-up: create clients and connections before the first edit needs them. It would wait 0.1 s for them."""

from __future__ import annotations

from contextlib import suppress

from reindexer.core.errors import ReindexerError
from reindexer.sources.store import all_sources
from reindexer.worker.worker import Worker


def warm(worker: Worker) -> None:
    """Create every source's provider client, one connection to Postgres and one to Qdrant.

    Raises no ReindexerError: a dependency that is unavailable or misconfigured is reported when it is needed.
    """
    with suppress(ReindexerError):
        worker.index.ping()
    with suppress(ReindexerError):
        with worker.postgres.connection() as connection:
            sources = all_sources(connection)
        for source in sources:
            with suppress(ReindexerError):
                worker.embedder_of(source)  # guard warm-provider-client
