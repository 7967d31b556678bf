"""The composition root: builds everything from settings. The Celery app is built in `reindexer.celery_app`.

Plug-ins are found by name in the registry. It imports them when they are first used, because the vendors' clients take
a second to import and most commands do not need them.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from reindexer import registry
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.price import listed_price
from reindexer.core.profile import DEFAULT_MODEL, Profile
from reindexer.core.rate_limit import Caps, RateLimitState, account
from reindexer.core.source import Source
from reindexer.embedding.decorators import CountedEmbedder, RateLimitedEmbedder
from reindexer.embedding.rate_limit import Unlimited
from reindexer.monitoring.metrics_store import Counters
from reindexer.ports import (
    AccountOf,
    Broker,
    Embedder,
    EmbedderConfig,
    EmbedderOf,
    Index,
    RateLimiter,
    RateLimiterOf,
)
from reindexer.postgres.connect import Postgres
from reindexer.settings import Settings
from reindexer.worker.concurrency import WorkerPool
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker

OPENAI = "openai"
"""The embedder that the settings OPENAI_… are for."""

if TYPE_CHECKING:
    from reindexer.adapters.embedders.token_counter import TokenCounter


def postgres(settings: Settings, role: str) -> Postgres:
    """The connection pool of one role."""
    return Postgres(
        settings.require_database_url(),
        application_name=f"reindexer {role}",
        answer_s=settings.postgres_timeout_s,
    )


def embedder_of(settings: Settings, counted: Callable[[Embedder], Embedder] | None = None) -> EmbedderOf:
    """Returns a function that gives each source its embedder: one per profile, made at its first use.

    That function raises SourceError where a profile can't be used here, UsageError where no embedder is set.
    """
    made: dict[Profile, Embedder] = {}
    lock = threading.Lock()

    def of(source: Source) -> Embedder:
        with lock:
            if source.profile not in made:
                new = _embedder(settings, source)
                made[source.profile] = counted(new) if counted else new
            return made[source.profile]

    return of


def _embedder(settings: Settings, source: Source) -> Embedder:
    profile = source.profile
    name = _provider(settings, profile)
    config = EmbedderConfig(
        model=profile.model or settings.embedding_model,
        dimensions=profile.dimensions or settings.embedding_dimensions,
        base_url=_base_url(settings, profile),
        api_key=_api_key(settings, source),
        limits=settings.request_limits,
        options=profile.options,
        profile=profile,
    )
    try:
        return registry.embedder(name, config)
    except UsageError as exc:
        raise SourceError(f"source {source.name!r}: {exc}") from exc


def require_plugins(settings: Settings, sources: Iterable[Source] = ()) -> None:
    """Import the index and the embedder that the settings name, and the embedders and chunkers of the sources. A
    process that forks calls this before, so that its children share what was imported.

    Raises UsageError if what the settings name can't be used. A source whose embedder or chunker can't be used gets a
    `problem` when it is worked on.
    """
    settings.require_index()
    registry.INDEXES.load(settings.index)
    registry.EMBEDDERS.load(settings.require_embedder())
    for source in sources:
        with suppress(UsageError):
            registry.EMBEDDERS.load(_provider(settings, source.profile))
        with suppress(UsageError):
            registry.CHUNKERS.load(source.chunker)


def _provider(settings: Settings, profile: Profile) -> str:
    return profile.implied_provider or settings.require_embedder()


def is_in_process(settings: Settings, source: Source) -> bool:
    """Whether a source's embedder computes in this process: no request, no cost. Raises SourceError."""
    name = _provider(settings, source.profile)
    try:
        return registry.is_in_process(name)
    except UsageError as exc:
        raise SourceError(f"source {source.name!r}: {exc}") from exc


def _base_url(settings: Settings, profile: Profile) -> str | None:
    """What OPENAI_BASE_URL says is the server of `openai` alone."""
    return profile.base_url or (settings.openai_base_url if _provider(settings, profile) == OPENAI else None)


def _model(settings: Settings, profile: Profile) -> str:
    return profile.model or settings.embedding_model or DEFAULT_MODEL


def _account(settings: Settings, source: Source, model: str) -> str:
    """The hash of what shares one limit at a provider."""
    provider, base_url = _provider(settings, source.profile), _base_url(settings, source.profile)
    server = base_url if provider == OPENAI or base_url else f"{provider}:"
    return account(server, _api_key(settings, source), model)


def token_price(settings: Settings, source: Source) -> float | None:
    """Dollars per million tokens of a source; None where the price is not known. A configured price applies to the
    settings' model alone."""
    if is_in_process(settings, source):
        return 0.0
    profile = source.profile
    asked = _provider(settings, profile), _base_url(settings, profile), _model(settings, profile)
    chosen = settings.embedder_name or OPENAI
    of_settings = chosen, settings.openai_base_url if chosen == OPENAI else None, _model(settings, Profile())
    if settings.price_per_million_tokens is not None and asked == of_settings:
        return settings.price_per_million_tokens
    return listed_price(*asked[1:]) if asked[0] == OPENAI else None


def token_counter_of(settings: Settings, source: Source) -> TokenCounter:
    """Counts a source's tokens: with its model's own tokenizer where that can be had, else by an estimate."""
    from reindexer.adapters.embedders.token_counter import ESTIMATE, TokenCounter, token_counter

    if _provider(settings, source.profile) == OPENAI:
        return token_counter(_model(settings, source.profile))
    embedder = _embedder(settings, source)
    count = getattr(embedder, "count_tokens", None)
    return TokenCounter(embedder.fingerprint.partition(":")[2].rpartition(":")[0], count) if count else ESTIMATE


def _api_key(settings: Settings, source: Source) -> str | None:
    """A server that a profile names gets the key that the profile names, never the one of the settings. That one is for
    `openai` alone."""
    if name := source.profile.api_key_env:
        if not (key := os.environ.get(name)):
            raise SourceError(f"source {source.name!r}: its profile's api_key_env names {name}, which is not set here")
        return key
    is_of_settings = not source.profile.base_url and _provider(settings, source.profile) == OPENAI
    key_of_settings = settings.openai_api_key if is_of_settings else None
    return key_of_settings.get_secret_value() if key_of_settings else None


def query_embedder_of(settings: Settings, counters: Counters | None = None) -> EmbedderOf:
    """As `embedder_of`, for searches: each query waits for its slot in the rate limiter, and is counted."""
    counted: Callable[[Embedder], Embedder] | None = None
    if counters is not None:
        counted = lambda made: CountedEmbedder(made, counters, "queries")  # noqa: E731
    made, rate_limiters = embedder_of(settings, counted), rate_limiter_of(settings)
    return lambda source: RateLimitedEmbedder(made(source), rate_limiters(source), counters)


def rate_limiter_of(settings: Settings) -> RateLimiterOf:
    """The rate limiter of each source's account. Raises SourceError as `embedder_of` does."""
    where = settings.rate_limiter_server
    if where is None:
        return lambda _: Unlimited()
    from reindexer.adapters.redis_rate_limiter import RateLimiterServer, RedisRateLimiter

    server = RateLimiterServer(where, settings.names.rate_limiter)
    caps = Caps(settings.requests_per_minute, settings.tokens_per_minute)
    rate_limiters: dict[str, RateLimiter] = {}
    lock = threading.Lock()

    def of(source: Source) -> RateLimiter:
        if is_in_process(settings, source):
            return Unlimited()
        name = _account(settings, source, _model(settings, source.profile))
        with lock:
            if name not in rate_limiters:
                rate_limiters[name] = RedisRateLimiter(server, name, caps, random.random, settings.retry_base_s)
            return rate_limiters[name]

    return of


def account_of(settings: Settings) -> AccountOf:
    """The account of each source's provider (see `reindexer.ports.AccountOf`). Raises SourceError as `embedder_of`."""

    def of(source: Source) -> str:
        if is_in_process(settings, source):
            return ""
        return _account(settings, source, "")  # guard breaker-per-account

    return of


def rate_limits(settings: Settings, sources: Iterable[Source]) -> Mapping[str, RateLimitState]:
    """The rate limiter's state by source name, where it is known; empty while Redis does not answer."""
    rate_limiters, found = rate_limiter_of(settings), dict[str, RateLimitState]()
    for source in sources:
        with suppress(SourceError, UsageError):
            if (state := rate_limiters(source).state()) is not None:
                found[source.name] = state
    return found


def index(settings: Settings) -> Index:
    """The index that the settings name. Raises UsageError."""
    return registry.index(settings.index, settings.index_config)


def worker(settings: Settings, broker: Broker | None, *, pool_threads: int = 0) -> Worker:
    """Everything that claims, embeds, writes and settles. `pool_threads`: threads per lane, beside the callers' own."""
    pool = postgres(settings, "worker")
    counters = Counters(pool)
    return Worker(
        postgres=pool,
        embedder_of=embedder_of(settings, lambda embedder: CountedEmbedder(embedder, counters, "items")),
        index=index(settings),
        broker=broker,
        limits=WorkLimits(
            settings.batch_size, settings.lease_s, settings.embedding_timeout_s, settings.qdrant_timeout_s
        ),
        policy=settings.retry_policy,
        breaker=settings.breaker_policy,
        jitter=random.random,
        counters=counters,
        pool=WorkerPool(pool_threads),
        rate_limiter_of=rate_limiter_of(settings),
        account_of=account_of(settings),
        instance=settings.instance,
    )
