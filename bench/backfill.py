"""Backfill: rows a second from a full outbox to settled; and beside it a bare loop into the same sink."""

from __future__ import annotations

import gc
import math
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

from qdrant_client import QdrantClient

from bench.bare_loop import bare_loop
from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.adapters.qdrant_index import QdrantIndex
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.flow.drain import drain
from reindexer.flow.work import Worker
from reindexer.interpreter import set_for_work
from reindexer.ports import Collection
from reindexer.postgres.connect import connect
from reindexer.settings import Settings
from reindexer.wiring import worker as make_worker

THREADS = 8


class Locked:
    """The client's local mode, for several threads: one call at a time, as it is not made for more."""

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                return getattr(self._client, name)(*arguments, **options)

        return call


def in_memory_client() -> QdrantClient:
    """Qdrant's local mode in this process, behind a lock."""
    return cast("QdrantClient", Locked())


class InMemory(QdrantIndex):
    """The program's own adapter over the client's local mode, in this process."""

    def __init__(self) -> None:
        super().__init__("http://in-memory", api_key=None, grpc_port=None)
        self.client = in_memory_client()
        self._preparing = threading.Lock()

    def prepare(
        self, collection: Collection, dimensions: int, owner: Owner, columns: Sequence[PayloadColumn] = ()
    ) -> str | None:
        """One thread at a time: whoever makes a collection that another just made hears so from a server, not here."""
        with self._preparing:
            return super().prepare(collection, dimensions, owner, columns)

    @property
    def _client(self) -> QdrantClient:
        return self.client


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """This process plays one: the interpreter is set as a worker process sets its own."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    set_for_work()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """The figures of backfills, at both latencies and into both sinks."""
    rows, times = (2_000, 1) if quick else (10_000, 3)
    for latency_ms in (0, 200):
        stage.provider.set_latency(latency_ms)
        for sink in ("", "http_"):
            ours, bare, bare_so = [], [], []
            for _ in range(times):
                with stage.fresh() as bench:
                    bench.fill(rows)
                    bare.append(bare_loop(bench, _sink(bench, sink), rows))
                    if not sink:
                        with as_in_a_worker():
                            bare_so.append(bare_loop(bench, in_memory_client(), rows))
                    ours.append(_over_http(bench, rows) if sink else _in_memory(bench, rows))
            found, beside = statistics.median(ours), statistics.median(bare)
            how = "prefork, 2 processes" if sink else f"one process, {THREADS} threads, Qdrant in it"
            if bare_so:
                how += f"; bare loop set as a worker {statistics.median(bare_so):,.0f}"
            figures.add(f"backfill_{sink}rps_{latency_ms}ms", found, f"bare loop {beside:,.0f}; {how}")
            figures.add(f"backfill_{sink}ratio_{latency_ms}ms", found / beside, f"to the bare loop; {how}")
    stage.provider.set_latency(0)


def _sink(bench: Bench, sink: str) -> QdrantClient:
    return bench.stage.qdrant() if sink else in_memory_client()


def _in_memory(bench: Bench, rows: int) -> float:
    index = InMemory()
    os.environ.update(bench.env)
    worker: Worker = make_worker(Settings.load(), None)
    worker.index = index
    with connect(bench.url, application_name="bench") as connection:
        while drain(connection).changes:
            pass
    began = time.monotonic()
    with as_in_a_worker(), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: worker.run_lane("bulk", budget_s=300), range(THREADS)))
    took = time.monotonic() - began
    worker.close()
    bench.require_all_indexed(index.client)
    return rows / took


def _over_http(bench: Bench, rows: int) -> float:
    with connect(bench.url, application_name="bench") as connection:
        while drain(connection).changes:
            pass
    bench.db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")  # each row once
    bench.processes.worker(pool="prefork", concurrency=2)
    began = time.monotonic()
    bench.processes.listener()
    while bench.waits():
        if time.monotonic() > began + 300:
            raise Unsound("the backfill does not end")
        time.sleep(0.05 + random.random() / 100)
    bench.require_all_indexed()
    # From the first claim, so without the listener's start; a token is the microsecond of its claim.
    first_to_last = "SELECT extract(epoch FROM max(settled_at))::float - min(token) / 1e6 FROM reindexer.ledger"
    (took,) = bench.db.execute(first_to_last).fetchone() or (math.nan,)
    return rows / float(took)
