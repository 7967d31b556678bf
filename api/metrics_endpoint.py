"""A scrape: all metrics that are available now, in Prometheus' text format. A dead dependency removes only its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from reindexer import __version__
from reindexer.core.lanes import LANES
from reindexer.monitoring.collect import Sample, measure_backlog, measure_counters, measure_states
from reindexer.monitoring.metrics import FORMER_NAMES, METRICS
from reindexer.ports import Broker, Index
from reindexer.postgres.connect import Connection, Postgres, connect

from .cached_query import CachedQuery

ANSWERS_WITHIN_S = 2.0
COUNTED_WITHIN_S = 5.0
"""Prometheus gives up after 10 s by default."""

KEEP_RATIO = 20.0
"""The backlog query takes at most a twentieth of one connection's time."""


class MetricsEndpoint:
    """Queries Postgres, broker and Qdrant at once, each in its own thread."""

    def __init__(self, postgres: Postgres, broker: Broker, index: Index) -> None:
        self._postgres = postgres
        self._broker = broker
        self._index = index
        self._executor = ThreadPoolExecutor(thread_name_prefix="scrape")
        self._states = CachedQuery(self._executor, "states", self._ask_states)
        self._lag = CachedQuery(self._executor, "lag", self._ask_lag, keep_ratio=KEEP_RATIO)
        self._queues = CachedQuery(self._executor, "broker", self._ask_broker)
        self._qdrant = CachedQuery(self._executor, "qdrant", self._ask_qdrant)

    async def text(self) -> bytes:
        """The answer to one scrape."""
        return generate_latest(_Families(await self.samples()))

    async def samples(self) -> list[Sample]:
        """All that is known now. However many ask, and for whatever, one query is counting at a time."""
        states, queues, qdrant, lag = await asyncio.gather(
            self._states.get(within_s=ANSWERS_WITHIN_S),
            self._queues.get(within_s=ANSWERS_WITHIN_S),
            self._qdrant.get(within_s=ANSWERS_WITHIN_S),
            self._lag.get(within_s=ANSWERS_WITHIN_S),
        )
        if states is not None and lag is None:
            lag = await self._lag.get(within_s=COUNTED_WITHIN_S - ANSWERS_WITHIN_S)
        samples = [
            Sample("reindexer_up", {}, states is not None),
            Sample("reindexer_build_info", {"version": __version__}, 1),
            Sample("reindexer_dependency_up", {"dependency": "broker"}, queues is not None),
            Sample("reindexer_dependency_up", {"dependency": "qdrant"}, qdrant is not None),
        ]
        for part in (states, lag if states is not None else None, queues):  # guard metrics-no-stale-lag
            samples += part or ()
        return samples

    def close(self) -> None:
        """Start no more queries; running ones end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ask_states(self) -> Sequence[Sample]:
        with self._connection() as connection:
            return [*measure_states(connection), *measure_counters(connection)]

    def _ask_lag(self) -> Sequence[Sample]:
        with self._connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # so that the counts agree
            connection.execute("SET LOCAL statement_timeout = '30s'")
            return measure_backlog(connection)

    def _ask_broker(self) -> Sequence[Sample]:
        return [Sample("reindexer_broker_messages", {"lane": lane}, self._broker.depth(lane)) for lane in LANES]

    def _ask_qdrant(self) -> Sequence[Sample]:
        self._index.ping()
        return []

    def _connection(self) -> Connection:
        """A separate connection: it reports an unreachable Postgres sooner, and with more detail, than a pool."""
        return connect(self._postgres.url, application_name="reindexer api scrape", timeout_s=2)


class _Families(Collector):
    """Groups samples by metric, as the exposition format needs them."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)

    def collect(self) -> Iterator[Family]:
        """In the order of the table of metrics; metrics without samples are left out."""
        for metric in METRICS.values():
            names = [metric.name, *(f"{metric.name}_{part}" for part in ("bucket", "count", "sum"))]
            samples = [sample for sample in self._samples if sample.name in names]
            if samples:
                yield _family(metric.name, metric.help, metric.kind, samples)
            if samples and (former := FORMER_NAMES.get(metric.name)):
                under = [Sample(former, sample.labels, sample.value) for sample in samples]
                yield _family(former, f"Now {metric.name}; this name goes with the next release.", metric.kind, under)


def _family(name: str, description: str, kind: str, samples: Iterable[Sample]) -> Family:
    family = Family(name.removesuffix("_total"), description, kind)
    family.samples = []
    for sample in samples:
        family.add_sample(sample.name, dict(sample.labels), float(sample.value))
    return family
