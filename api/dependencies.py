"""The parts that routes use, built in one place from the settings. Each is a dependency that a test can override."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from reindexer import wiring
from reindexer.celery_app import sending_broker
from reindexer.core.errors import UsageError
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.embedding.purse import Purse
from reindexer.index.search import Searcher
from reindexer.monitoring.metrics_store import Counters
from reindexer.ports import Broker, EmbedderOf, Index
from reindexer.postgres.connect import Connection, Postgres
from reindexer.queue.waiting import Waits
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.tracing import process as tracing

from .comparisons import Comparisons
from .histories import Histories
from .key_cache import KeyCache
from .metrics_endpoint import MetricsEndpoint
from .page.overview import Overviews
from .page.session import Sessions
from .probes import Probes
from .request_sender import RequestSender


class Container:
    """Builds each part at its first use, at the latest in `make`. No part connects before it is used."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._given = settings
        self._lock = threading.Lock()
        self._sender: RequestSender | None = None

    @cached_property
    def settings(self) -> Settings:
        """The given settings, else those of the environment. Raises UsageError."""
        return self._given or Settings.load()

    @cached_property
    def postgres(self) -> Postgres:
        """The connection pool."""
        return wiring.postgres(self.settings, "api")

    @cached_property
    def broker(self) -> Broker:
        """The queues."""
        return sending_broker(self.settings)

    @cached_property
    def searcher(self) -> Searcher:
        """What queries are searched with."""
        return wiring.searcher(self.settings, self.counters, self.purse)

    @property
    def embedder_of(self) -> EmbedderOf:
        """The embedders of queries."""
        return self.searcher.embedder_of

    @property
    def index(self) -> Index:
        """The index, for queries."""
        return self.searcher.index

    @cached_property
    def counters(self) -> Counters:
        """The metrics of this process."""
        return Counters(self.postgres)

    @cached_property
    def purse(self) -> Purse:
        """What this process pays for queries with."""
        return wiring.purse(self.settings, self.postgres)

    @cached_property
    def scrape(self) -> MetricsEndpoint:
        """The source of /metrics."""
        return MetricsEndpoint(self.postgres, self.broker, self.index)

    @cached_property
    def histories(self) -> Histories:
        """What /admin/history reads."""
        return Histories(self.postgres)

    @cached_property
    def comparisons(self) -> Comparisons:
        """What /admin/reconcile runs."""
        return Comparisons()

    @cached_property
    def waits(self) -> Waits:
        """What requests wait with."""
        return wiring.waits(self.settings, "api waits")

    @cached_property
    def keys(self) -> KeyCache:
        """The keys of the database."""
        return KeyCache(self.postgres)

    @cached_property
    def sessions(self) -> Sessions:
        """The logins to the page."""
        return Sessions(self.settings)

    @cached_property
    def overviews(self) -> Overviews:
        """What the page shows live."""
        return Overviews(self.scrape, self.postgres, self.settings)

    @cached_property
    def probes(self) -> Probes:
        """The checks of /readyz."""
        return Probes()

    def sender(self, postgres: Postgres, broker: Broker) -> RequestSender:
        """The one sender of this process, built with the arguments of the first call."""
        with self._lock:
            self._sender = self._sender or RequestSender(postgres, broker)
            return self._sender

    def make(self) -> None:
        """Build every part, before requests race for them. Raises UsageError if the settings can't work."""
        checks = (
            self.probes,
            self.scrape,
            self.histories,
            self.comparisons,
            self.waits,
            self.keys,
            self.sessions,
            self.overviews,
        )
        for _ in (self.postgres, self.broker, self.embedder_of(CONTEXT_ITEMS), self.index, self.waits, *checks):
            pass

    def close(self) -> None:
        """Send unsent reindex requests, then close the connections."""
        if self._sender is not None:
            self._sender.close()
        if "waits" in self.__dict__:
            self.waits.close()
        if "keys" in self.__dict__:
            self.keys.close()
        if "probes" in self.__dict__:
            self.probes.close()
        if "overviews" in self.__dict__:
            self.overviews.close()
        if "comparisons" in self.__dict__:
            self.comparisons.close()
        if "histories" in self.__dict__:
            self.histories.close()
        if "scrape" in self.__dict__:
            self.scrape.close()
        if "purse" in self.__dict__:
            self.purse.close()
        if "counters" in self.__dict__:
            self.counters.close()
        if "postgres" in self.__dict__:
            self.postgres.close()
        tracing.close()


def get_container(request: Request) -> Container:
    """The parts of this application."""
    parts: Container = request.app.state.parts
    return parts


def get_settings(parts: Annotated[Container, Depends(get_container)]) -> Settings:
    """The settings."""
    return parts.settings


def get_postgres(parts: Annotated[Container, Depends(get_container)]) -> Postgres:
    """The pool of connections."""
    return parts.postgres


def get_broker(parts: Annotated[Container, Depends(get_container)]) -> Broker:
    """The queues. A test overrides it to see what is sent."""
    return parts.broker


def get_embedder_of(parts: Annotated[Container, Depends(get_container)]) -> EmbedderOf:
    """Returns the embedder of a source."""
    return parts.embedder_of


def get_searcher(parts: Annotated[Container, Depends(get_container)]) -> Searcher:
    """What queries are searched with."""
    return parts.searcher


def get_index(parts: Annotated[Container, Depends(get_container)]) -> Index:
    """The index of vectors."""
    return parts.index


def get_probes(parts: Annotated[Container, Depends(get_container)]) -> Probes:
    """The checks of the dependencies."""
    return parts.probes


def get_metrics_endpoint(parts: Annotated[Container, Depends(get_container)]) -> MetricsEndpoint:
    """The source of /metrics."""
    return parts.scrape


def get_histories(parts: Annotated[Container, Depends(get_container)]) -> Histories:
    """The source of /admin/history."""
    return parts.histories


def get_comparisons(parts: Annotated[Container, Depends(get_container)]) -> Comparisons:
    """The comparisons of this process."""
    return parts.comparisons


PostgresPart = Annotated[Postgres, Depends(get_postgres)]
BrokerPart = Annotated[Broker, Depends(get_broker)]


def get_sender(
    parts: Annotated[Container, Depends(get_container)], postgres: PostgresPart, broker: BrokerPart
) -> RequestSender:
    """The background sender of reindex requests."""
    return parts.sender(postgres, broker)


SettingsDep = Annotated[Settings, Depends(get_settings)]
EmbedderOfPart = Annotated[EmbedderOf, Depends(get_embedder_of)]
SearcherPart = Annotated[Searcher, Depends(get_searcher)]
IndexPart = Annotated[Index, Depends(get_index)]
ProbesPart = Annotated[Probes, Depends(get_probes)]
ComparisonsPart = Annotated[Comparisons, Depends(get_comparisons)]
HistoriesPart = Annotated[Histories, Depends(get_histories)]
ScrapePart = Annotated[MetricsEndpoint, Depends(get_metrics_endpoint)]
SenderPart = Annotated[RequestSender, Depends(get_sender)]


def source_or_404(connection: Connection, name: str) -> Source:
    """The attached source of this name. Raises HTTPException 404."""
    try:
        return find_source(connection, name)
    except UsageError as exc:
        hint = "; name one as `source`" if name == CONTEXT_ITEMS.name else ""
        raise HTTPException(404, f"{exc}{hint}") from exc
