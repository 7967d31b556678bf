"""Clients write, wait and search, while processes are killed: nobody is told too early, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from statistics import quantiles

import pytest
import redis

from reindexer import Client
from reindexer.embedded.children import Child
from reindexer.ports import Vectors
from reindexer.settings import Settings
from reindexer.testing.provider import vector_of
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.torture.waiter import Waiter

CLIENTS = 8
KILLED_EACH_S = 8.0
"""A killed worker's items come back after 4 s, and nobody's wait ends meanwhile."""


def expected(model: str | None, text: str) -> Vectors:
    return vector_of(text)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        client.sources()
        yield client


def run(waiters: list[Waiter], loops: int, meanwhile: Callable[[], None] = lambda: None) -> None:
    """So many turns of each, at once. `meanwhile` is called again and again."""

    def live(waiter: Waiter) -> None:
        for _ in range(loops):
            waiter.turn()

    threads = [threading.Thread(target=live, args=[each]) for each in waiters]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        meanwhile()
        time.sleep(0.1)


class Kills:
    """Takes one process after the other away, and Redis's messages."""

    def __init__(self, processes: Processes, redis_url: str) -> None:
        self._processes = processes
        self._redis_url = redis_url
        self._listener, self._worker = processes.listener(REINDEXER_LEASE_S="4"), self._work()
        self._next_s = time.monotonic() + KILLED_EACH_S
        self.killed = 0

    def _work(self) -> Child:
        return self._processes.worker(concurrency=2, REINDEXER_LEASE_S="4")

    def __call__(self) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + KILLED_EACH_S
        which, self.killed = self.killed % 3, self.killed + 1
        if which == 0:
            self._processes.children.kill(self._worker)
            self._worker = self._work()
        elif which == 1:
            self._processes.children.kill(self._listener)
            self._listener = self._processes.listener(REINDEXER_LEASE_S="4")
        else:
            with redis.Redis.from_url(self._redis_url) as broker:
                broker.flushall()


def read_your_writes(
    client: Client, database: str, index: IndexReader, loops: int, meanwhile: Callable[[], None], *,
    most_rows: int = 12, truncates: float = 0.002, patience_s: float = 20.0,
) -> list[Waiter]:  # fmt: skip
    waiters = [
        Waiter("loops", n, database, index.client, client, most_rows=most_rows, truncates=truncates, expected=expected,
               searches=0.2, patience_s=patience_s)
        for n in range(CLIENTS)
    ]  # fmt: skip
    run(waiters, loops // CLIENTS, meanwhile)
    for each in waiters:
        each.end()
    complaints = [complaint for each in waiters for complaint in each.complaints]
    assert not complaints, f"{len(complaints)}: " + "\n".join(complaints[:20])
    told: dict[str, int] = {}
    for each in waiters:
        for status, number in each.statuses.items():
            told[status] = told.get(status, 0) + number
    waited = [each for waiter in waiters for each in waiter.waited_s]
    cuts = quantiles(waited, n=100)
    print(f"{loops} loops: {told}; waits p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms")
    assert told["indexed"] > loops * 0.8
    assert sum(each.covered for each in waiters) > loops * 0.2
    return waiters


def test_eight_clients_read_their_writes(
    client: Client, processes: Processes, database: str, index: IndexReader
) -> None:
    processes.listener()
    processes.worker(concurrency=2)
    read_your_writes(client, database, index, 160, lambda: None)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_eight_clients_read_their_writes_while_processes_are_killed(
    client: Client, processes: Processes, database: str, index: IndexReader, redis_url: str
) -> None:
    kills = Kills(processes, redis_url)
    read_your_writes(client, database, index, 10_000, kills, most_rows=30_000, truncates=0.0005, patience_s=60.0)
    assert kills.killed > 20
