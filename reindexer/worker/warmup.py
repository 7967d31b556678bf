"""Warm: make clients and connections before the first edit needs them; it would wait a tenth of a second for them."""

from __future__ import annotations

from contextlib import suppress

from reindexer.core.errors import ReindexerError
from reindexer.sources.store import all_sources
from reindexer.worker.worker import Worker


def warm(worker: Worker) -> None:
    """For each source its provider's client; a connection to Postgres and one to Qdrant.

    Raises nothing of ours: what is away or wrong now is told where it is needed.
    """
    with suppress(ReindexerError):
        worker.index.ping()
    with suppress(ReindexerError):
        with worker.postgres.connection() as connection:
            sources = all_sources(connection)
        for source in sources:
            with suppress(ReindexerError):
                worker.embedder_of(source)  # guard warm-provider-client
