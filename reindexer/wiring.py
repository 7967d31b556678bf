"""The one place that builds everything from settings. Celery has its own, `reindexer.celery_app`, beside it.

The adapters are imported where they are built: the vendors' clients take a second to import, which most commands can
do without.
"""

from __future__ import annotations

import random

from reindexer.flow.count import CountedEmbedder
from reindexer.flow.counters import Counters
from reindexer.flow.work import Worker, WorkLimits
from reindexer.ports import Broker, Embedder, Index
from reindexer.postgres.connect import Postgres
from reindexer.settings import Settings


def postgres(settings: Settings, role: str) -> Postgres:
    """The pool of one role."""
    return Postgres(
        settings.require_database_url(),
        application_name=f"reindexer {role}",
        answer_s=settings.postgres_timeout_s,
    )


def embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name."""
    if settings.embedder_name == "hashing":
        from reindexer.adapters.hashing_embedder import HashingEmbedder

        return HashingEmbedder(settings.embedding_dimensions)
    from reindexer.adapters.openai_embedder import OpenAIEmbedder

    key = settings.openai_api_key
    return OpenAIEmbedder(
        api_key=key.get_secret_value() if key else None,
        base_url=settings.openai_base_url,
        model=settings.embedding_model,
        dimensions=settings.embedding_dimensions,
        limits=settings.request_limits,
    )


def index(settings: Settings) -> Index:
    """The Qdrant server."""
    from reindexer.adapters.qdrant_index import QdrantIndex

    key = settings.qdrant_api_key
    return QdrantIndex(
        settings.require_qdrant_url(),
        api_key=key.get_secret_value() if key else None,
        grpc_port=settings.qdrant_grpc_port if settings.qdrant_grpc else None,
        timeout_s=settings.qdrant_timeout_s,
    )


def worker(settings: Settings, broker: Broker | None) -> Worker:
    """Everything that claims, embeds, writes and settles."""
    pool = postgres(settings, "worker")
    counters = Counters(pool)
    return Worker(
        postgres=pool,
        embedder=CountedEmbedder(embedder(settings), counters, "items"),
        index=index(settings),
        broker=broker,
        limits=WorkLimits(
            settings.batch_size, settings.lease_s, settings.embedding_timeout_s, settings.qdrant_timeout_s
        ),
        policy=settings.retry_policy,
        breaker=settings.breaker_policy,
        chance=random.random,
        counters=counters,
        instance=settings.instance,
    )
