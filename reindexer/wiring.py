"""The composition root: builds everything from settings. The Celery app is built in `reindexer.celery_app`.

Plug-ins are found by name in the registry. It imports them when they are first used, because the vendors' clients take
a second to import and most commands do not need them.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING

from reindexer import registry
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.price import listed_price
from reindexer.core.profile import Profile, Side
from reindexer.core.rate_limit import Caps, RateLimitState, account
from reindexer.core.source import Source
from reindexer.core.spend import Charged, Purpose
from reindexer.embedder_choice import OPENAI, api_key, base_url, in_effect, make_embedder, model, provider, server_of
from reindexer.embedding.decorators import CountedEmbedder, PrefixedEmbedder, RateLimitedEmbedder, SpendingEmbedder
from reindexer.embedding.purse import Purse
from reindexer.embedding.rate_limit import Unlimited
from reindexer.embedding.server_proof import ServerProof
from reindexer.index.search import Searcher
from reindexer.monitoring.metrics_store import Counters
from reindexer.ports import (
    AccountOf,
    Broker,
    Embedder,
    EmbedderOf,
    Index,
    KeywordEncoder,
    KeywordEncoderOf,
    RateLimiter,
    RateLimiterOf,
)
from reindexer.postgres.connect import Connection, Postgres, connect, server_errors
from reindexer.queue.waiting import Waits
from reindexer.settings import Settings
from reindexer.worker.concurrency import WorkerPool
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker

if TYPE_CHECKING:
    from reindexer.adapters.embedders.token_counter import TokenCounter


def postgres(settings: Settings, role: str) -> Postgres:
    """The connection pool of one role."""
    return Postgres(
        settings.require_database_url(),
        application_name=f"reindexer {role}",
        answer_s=settings.postgres_timeout_s,
    )


def waits(settings: Settings, role: str) -> Waits:
    """What a process waits for marks with. It connects at its first wait."""
    url = settings.require_listen_database_url()

    def listening() -> Connection:
        return connect(url, application_name=f"reindexer {role}", timeout_s=3, answer_s=settings.postgres_timeout_s)

    return Waits(listening)


def embedder_of(
    settings: Settings, counted: Callable[[Embedder], Embedder] | None = None, proof: ServerProof | None = None,
    side: Side = "document", *, purse: Purse | None = None, purpose: Purpose = "probe",
) -> EmbedderOf:  # fmt: skip
    """Returns a function that gives each source its embedder: one per profile and record, made at its first use.

    With a `proof` an address that is not known to make the source's vectors proves it before it embeds anything. What
    requests cost comes out of the `purse`; `purpose`: what they are for, where `spending` does not say. The function
    raises as `make_embedder` does. What is in front of a text, the caller adds.
    """
    documents = embedder_of(settings, counted, purse=purse) if proof and side == "query" else None
    made: dict[tuple[Profile, str | None], Embedder] = {}
    lock = threading.Lock()

    def of(source: Source) -> Embedder:
        wanted = source.profile, source.made_by
        with lock:
            if wanted not in made:
                first = made.get((source.profile, None))
                if first is not None and first.fingerprint == source.made_by:
                    made[wanted] = first  # it has found out what its server takes
                else:
                    new = make_embedder(settings, source, side)
                    made[wanted] = counted(new) if counted else new
            embedder = made[wanted]
        if purse is not None and not is_in_process(settings, source):
            embedder = SpendingEmbedder(embedder, purse, charged(settings, source), purpose)
        return proof.of(source, embedder, server_of(settings, source), documents) if proof else embedder

    return of


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
            registry.EMBEDDERS.load(provider(settings, in_effect(source)))
        with suppress(UsageError):
            registry.CHUNKERS.load(source.chunker)


def is_in_process(settings: Settings, source: Source) -> bool:
    """Whether a source's embedder computes in this process: no request, no cost. Raises SourceError."""
    name = provider(settings, in_effect(source))
    try:
        return registry.is_in_process(name)
    except UsageError as exc:
        raise SourceError(f"source {source.name!r}: {exc}") from exc


def _account(settings: Settings, source: Source, named: str) -> str:
    """The hash of what shares one limit at a provider."""
    profile = in_effect(source)
    name, url = provider(settings, profile), base_url(settings, profile)
    server = url if name == OPENAI or url else f"{name}:"
    return account(server, api_key(settings, source, profile), named)


def charged(settings: Settings, source: Source) -> Charged:
    """Whom a source's requests are charged to. Raises SourceError."""
    named = model(settings, in_effect(source))
    return Charged(source.name, _account(settings, source, ""), named, token_price(settings, source))


def purse(settings: Settings, pool: Postgres | None = None, *, required: bool = False) -> Purse:
    """What a process pays with. Without a pool it connects anew for each statement: for commands, which need few."""
    # guard budget-lock-timeout
    connecting = pool.connection if pool else partial(_own_connection, settings, answer_s=settings.postgres_timeout_s)
    return Purse(connecting, required=required, instance=settings.instance)


def token_price(settings: Settings, source: Source) -> float | None:
    """Dollars per million tokens of a source; None where the price is not known. A file of prices comes first. A
    configured price applies to the settings' model alone."""
    if is_in_process(settings, source):
        return 0.0
    profile = in_effect(source)
    asked = provider(settings, profile), base_url(settings, profile), model(settings, profile)
    if (price := settings.price_list.price(server_of(settings, source), asked[2])) is not None:
        return price
    chosen = settings.embedder_name or OPENAI
    of_settings = chosen, settings.openai_base_url if chosen == OPENAI else None, model(settings, Profile())
    if settings.price_per_million_tokens is not None and asked == of_settings:
        return settings.price_per_million_tokens
    return listed_price(*asked[1:]) if asked[0] == OPENAI else None


def token_counter_of(settings: Settings, source: Source) -> TokenCounter:
    """Counts a source's tokens: with its model's own tokenizer where that can be had, else by an estimate."""
    from reindexer.adapters.embedders.token_counter import ESTIMATE, TokenCounter, token_counter

    profile = in_effect(source)
    if provider(settings, profile) == OPENAI:
        return token_counter(model(settings, profile))
    embedder = make_embedder(settings, source)
    count = getattr(embedder, "count_tokens", None)
    return TokenCounter(embedder.fingerprint.partition(":")[2].rpartition(":")[0], count) if count else ESTIMATE


def query_embedder_of(settings: Settings, counters: Counters | None = None, paying: Purse | None = None) -> EmbedderOf:
    """As `embedder_of`, for searches: each query gets its source's prefix, waits for its slot in the rate limiter, and
    is counted and accounted."""
    counted: Callable[[Embedder], Embedder] | None = None
    if counters is not None:
        counted = lambda made: CountedEmbedder(made, counters, "queries")  # noqa: E731
    proof = ServerProof(partial(_own_connection, settings), cache(partial(index, settings)), settings.qdrant_timeout_s)
    paying = paying or purse(settings)
    made = embedder_of(settings, counted, proof, "query", purse=paying, purpose="search")
    rate_limiters = rate_limiter_of(settings)

    def of(source: Source) -> Embedder:
        limited = RateLimitedEmbedder(made(source), rate_limiters(source), counters)
        prefix = source.profile.asking("query").prefix
        return PrefixedEmbedder(limited, prefix) if prefix else limited  # guard query-prefix-of-source

    return of


@contextmanager
def _own_connection(settings: Settings, answer_s: float | None = None) -> Iterator[Connection]:
    """For what a process asks once in its life, if at all. `answer_s`: the time limit of a statement."""
    url = settings.require_database_url()
    with server_errors(url), connect(url, application_name="reindexer proof", answer_s=answer_s) as connection:
        yield connection


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
        name = _account(settings, source, model(settings, in_effect(source)))
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


def searcher(settings: Settings, counters: Counters | None = None, paying: Purse | None = None) -> Searcher:
    """What a process searches with."""
    return Searcher(
        query_embedder_of(settings, counters, paying), index(settings), keyword_encoder_of(settings),
        settings.embedding_timeout_s, settings.search_degrades,
    )  # fmt: skip


def keyword_encoder_of(settings: Settings) -> KeywordEncoderOf:
    """The keyword encoder of each source (see `reindexer.ports.KeywordEncoderOf`)."""

    def of(source: Source) -> KeywordEncoder | None:
        if (rules := source.keyword_rules) is None:
            return None
        from reindexer.adapters.bm25 import encoder

        try:
            if not registry.takes_keywords(settings.index):
                raise UsageError(f"the index {settings.index!r} holds no keywords; take keywords out of the source")
            return encoder(rules)
        except UsageError as exc:
            raise SourceError(f"source {source.name!r}: {exc}") from exc

    return of


def index(settings: Settings) -> Index:
    """The index that the settings name. Raises UsageError."""
    return registry.index(settings.index, settings.index_config)


def worker(settings: Settings, broker: Broker | None, *, pool_threads: int = 0) -> Worker:
    """Everything that claims, embeds, writes and settles. `pool_threads`: threads per lane, beside the callers' own."""
    pool, found = postgres(settings, "worker"), index(settings)
    counters, paying = Counters(pool), purse(settings, pool, required=True)
    who = f"a worker on {socket.gethostname()}: "
    proof = ServerProof(pool.connection, lambda: found, settings.qdrant_timeout_s, who, writes=True)
    return Worker(
        postgres=pool,
        embedder_of=embedder_of(
            settings,
            lambda embedder: CountedEmbedder(embedder, counters, "items"),
            proof,
            purse=paying,
            purpose="edit",
        ),
        index=found,
        broker=broker,
        limits=WorkLimits(
            settings.batch_size, settings.lease_s, settings.embedding_timeout_s, settings.qdrant_timeout_s
        ),
        policy=settings.retry_policy,
        breaker=settings.breaker_policy,
        jitter=random.random,
        counters=counters,
        purse=paying,
        pool=WorkerPool(pool_threads),
        rate_limiter_of=rate_limiter_of(settings),
        account_of=account_of(settings),
        keyword_encoder_of=keyword_encoder_of(settings),
        server_of=lambda source: server_of(settings, source),
        instance=settings.instance,
    )
