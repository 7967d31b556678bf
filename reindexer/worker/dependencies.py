"""What a worker process works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from reindexer.core.breaker import BreakerPolicy
from reindexer.core.retry import RetryPolicy
from reindexer.core.source import Source
from reindexer.embedding.purse import Purse
from reindexer.embedding.rate_limit import Unlimited
from reindexer.embedding.refusals import Refusals
from reindexer.monitoring.metrics_store import Counters
from reindexer.ports import AccountOf, Broker, EmbedderOf, Index, Jitter, KeywordEncoderOf, RateLimiterOf
from reindexer.postgres.connect import Postgres
from reindexer.worker.collections import Collections
from reindexer.worker.concurrency import WorkerPool
from reindexer.worker.execution import WorkLimits


@dataclass(slots=True)
class Dependencies:
    """The ports, policies and shared knowledge of one process. Holds no state of items."""

    postgres: Postgres
    embedder_of: EmbedderOf
    index: Index
    broker: Broker | None
    """Stores results under the task ids of reindex requests. None: results are not stored."""
    limits: WorkLimits
    policy: RetryPolicy
    breaker: BreakerPolicy
    jitter: Jitter
    counters: Counters
    purse: Purse
    pool: WorkerPool = field(default_factory=WorkerPool)
    rate_limiter_of: RateLimiterOf = lambda _: Unlimited()
    account_of: AccountOf = lambda _: ""
    keyword_encoder_of: KeywordEncoderOf = lambda _: None
    server_of: Callable[[Source], str | None] = lambda _: None
    """The address of a source's provider; None: it has none."""
    instance: str | None = None
    """Name of this database, if it replaces the identity that the server reports."""
    collections: Collections = field(default_factory=Collections)
    refusals: Refusals = field(default_factory=Refusals)
