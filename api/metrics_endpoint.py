"""A scrape: all metrics that are available now, in Prometheus' text format. A dead dependency removes only its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from reindexer import __version__
from reindexer.core.lanes import LANES
from reindexer.monitoring.collect import Sample, measure_backlog, measure_counters, measure_states
from reindexer.monitoring.metrics import FORMER_NAMES, METRICS
from reindexer.ports import Broker, Index
from reindexer.postgres.connect import Connection, Postgres

from .cached_query import CachedQuery
from .kept_connection import KeptConnection, Resting

ANSWERS_WITHIN_S = 2.0
COUNTED_WITHIN_S = 5.0
"""Prometheus gives up after 10 s by default."""

QUICK_S = 10.0
SLOW_S = 40.0
"""How long a statement may take; the server gives up after three quarters of it."""

KEEP_RATIO = 20.0
"""The backlog query takes at most a twentieth of one connection's time."""


class MetricsEndpoint:
    """Queries Postgres, broker and Qdrant at once, each in its own thread."""

    def __init__(self, postgres: Postgres, broker: Broker, index: Index) -> None:
        self._broker = broker
        self._index = index
        self._executor = ThreadPoolExecutor(thread_name_prefix="scrape")
        # Of their own: what counts for long keeps nobody waiting who does not.
        self._quick, self._slow = (
            KeptConnection(postgres.url, "reindexer api scrape", answer_s=answer_s) for answer_s in (QUICK_S, SLOW_S)
        )
        self._resting = Resting(self._executor, (self._quick, self._slow))
        self._counters = CachedQuery(self._executor, "counters", partial(self._quick.ask, measure_counters))
        self._states = CachedQuery(self._executor, "states", partial(self._quick.ask, measure_states))
        self._lag = CachedQuery(self._executor, "lag", self._ask_lag, keep_ratio=KEEP_RATIO)
        self._queues = CachedQuery(self._executor, "broker", self._ask_broker)
        self._qdrant = CachedQuery(self._executor, "qdrant", self._ask_qdrant)

    async def text(self) -> bytes:
        """The answer to one scrape."""
        return generate_latest(_Families(await self.samples()))

    async def samples(self, *, states_old_s: float = 0.0) -> list[Sample]:
        """All that is known now. However many ask, and for whatever, one query is counting at a time.

        `states_old_s`: the states of sources and processes, which are dear to read, may be so old.
        """
        states, counters, queues, qdrant, lag = await asyncio.gather(
            self._states.get(within_s=ANSWERS_WITHIN_S, old_s=states_old_s),
            self._counters.get(within_s=ANSWERS_WITHIN_S),
            self._queues.get(within_s=ANSWERS_WITHIN_S),
            self._qdrant.get(within_s=ANSWERS_WITHIN_S),
            self._lag.get(within_s=ANSWERS_WITHIN_S),
        )
        up = states is not None and counters is not None
        if up and lag is None:
            lag = await self._lag.get(within_s=COUNTED_WITHIN_S - ANSWERS_WITHIN_S)
        samples = [
            Sample("reindexer_up", {}, up),
            Sample("reindexer_build_info", {"version": __version__}, 1),
            Sample("reindexer_dependency_up", {"dependency": "broker"}, queues is not None),
            Sample("reindexer_dependency_up", {"dependency": "qdrant"}, qdrant is not None),
        ]
        of_postgres = (states, counters, lag) if up else ()  # guard metrics-no-stale-lag
        for part in (*of_postgres, queues):
            samples += part or ()
        self._resting.begin()
        return samples

    def forget_states(self) -> None:
        """Something was changed just now: the next states are read anew, however old they may be."""
        self._states.forget()

    def close(self) -> None:
        """Start no more queries; running ones end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for each in (self._quick, self._slow):
            each.close()

    def _ask_lag(self) -> Sequence[Sample]:
        return self._slow.ask(_backlog)

    def _ask_broker(self) -> Sequence[Sample]:
        return [Sample("reindexer_broker_messages", {"lane": lane}, self._broker.depth(lane)) for lane in LANES]

    def _ask_qdrant(self) -> Sequence[Sample]:
        self._index.ping()
        return []


def _backlog(connection: Connection) -> Sequence[Sample]:
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # so that the counts agree
        return measure_backlog(connection)


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
