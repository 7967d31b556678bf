"""The collection that a generation would take vectors from fails, alone or with all of Qdrant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from reindexer.core.profile import Profile
from reindexer.generations import lifecycle
from reindexer.postgres.connect import Connection
from reindexer.queue.breaker import open_breakers
from reindexer.queue.drain import drain
from reindexer.testing.provider import FakeProvider
from reindexer.worker.worker import Worker
from tests.integration.generations.settling import NAME, points, rebuilt, settle, started, walk
from tests.support.flow import fill, work
from tests.support.index_reader import IndexReader
from tests.support.quoting import QuotingProxy
from tests.support.servers import Servers

SMALL_GRAPH = Profile(collection={"hnsw_config": {"m": 8}})


@pytest.fixture
def gate(servers: Servers) -> Iterator[QuotingProxy]:
    """Stands before Qdrant."""
    running = QuotingProxy(servers.qdrant_url)
    yield running
    running.close()


@pytest.fixture
def env(env: Mapping[str, str], gate: QuotingProxy) -> Mapping[str, str]:
    return {**env, "QDRANT_URL": f"http://{gate.address}"}


@pytest.fixture
def due(db: Connection, worker: Worker, provider: FakeProvider) -> Connection:
    """Four rows in generation 1, all of them due for generation 2; the worker has taken from 1 before."""
    fill(db)
    settle(db, worker)
    rebuilt(db, worker, profile=SMALL_GRAPH)
    lifecycle.prune(db, NAME, who="test", number=2)
    started(db, profile=SMALL_GRAPH)
    drain(db)
    walk(db)
    provider.calls.clear()
    return db


def reads_vectors(body: str) -> bool:
    return '"with_vector":true' in body.replace(" ", "")


def writes(body: str) -> bool:
    return '"vectors":[[' in body.replace(" ", "")


def changes_nothing(body: str) -> bool:
    return "00000000-0000-0000-0000-000000000000" in body


@pytest.mark.parametrize("status", [500, 504, 403])
@pytest.mark.first(1)
def test_a_donor_that_fails_is_no_error_of_the_claim(
    due: Connection, worker: Worker, provider: FakeProvider, gate: QuotingProxy, index: IndexReader, status: int
) -> None:
    gate.refuse = lambda body: status if reads_vectors(body) else None
    work(due, worker)
    assert gate.refused == 1, "it is left alone for a while"
    assert len(provider.inputs) == 4
    assert len(points(index, 3)) == 4
    assert due.execute("SELECT max(attempts) FROM reindexer.ledger WHERE generation = 3").fetchone() == (1,)
    assert open_breakers(due) == []


@pytest.mark.parametrize("status", [500, 504, 403])
@pytest.mark.first(1)
def test_no_vector_is_paid_for_where_a_donor_fails_and_nothing_can_be_written(
    due: Connection, worker: Worker, provider: FakeProvider, gate: QuotingProxy, index: IndexReader, status: int
) -> None:
    gate.refuse = lambda body: status if reads_vectors(body) or changes_nothing(body) or writes(body) else None
    work(due, worker)
    assert gate.refused >= 2
    assert provider.calls == []
    gate.refuse = lambda _: None
    due.execute("UPDATE reindexer.due SET not_before = now()")
    due.execute("DELETE FROM reindexer.breaker")
    settle(due, worker)
    assert len(points(index, 3)) == 4
