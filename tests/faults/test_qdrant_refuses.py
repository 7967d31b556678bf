"""Qdrant refuses everything for a while (a key is rotated, a right is taken away), or one payload alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from qdrant_client import models

from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.queue.breaker import open_breakers
from reindexer.testing.provider import DIMENSIONS, FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.outages import attempts, ready
from tests.support.processes import Processes
from tests.support.quoting import QuotingProxy
from tests.support.servers import Servers

COLLECTION = "context_items__g1"


@pytest.fixture
def gate(servers: Servers) -> Iterator[QuotingProxy]:
    """Stands before Qdrant."""
    running = QuotingProxy(servers.qdrant_url)
    yield running
    running.close()


@pytest.fixture
def env(env: Mapping[str, str], gate: QuotingProxy) -> Mapping[str, str]:
    return {**env, "QDRANT_URL": f"http://{gate.address}"}


def problem(db: Connection) -> str | None:
    return state_of_everything(db).sources["context_items"].problem


def writes(body: str) -> bool:
    return '"vectors"' in body or '"filter"' in body


REFUSALS: dict[str, Callable[[str], int | None]] = {
    "401 to everything": lambda body: 401,
    "403 to everything": lambda body: 403,
    "403 to writes": lambda body: 403 if writes(body) else None,
    "403 to reads": lambda body: None if writes(body) else 403,
}


@pytest.mark.parametrize("refuse", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.long
def test_a_refusal_of_everything_fails_no_item_and_all_follow_when_it_is_over(
    db: Connection,
    worker: Worker,
    gate: QuotingProxy,
    index: IndexReader,
    provider: FakeProvider,
    refuse: Callable[[str], int | None],
) -> None:
    deleted_id, changed_id = insert(db, "deleted"), insert(db, "before")
    work(db, worker)
    asked = len(provider.calls)
    worker.limits = WorkLimits(batch_size=20)
    gate.refuse = refuse
    ids = {insert(db, text): text for text in (f"text {n}" for n in range(60))}
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted_id])
    db.execute("UPDATE context_items SET content = 'after' WHERE id = %s", [changed_id])
    for _ in range(3):
        work(db, worker)
        ready(db)
    assert len(provider.calls) - asked <= 1, "vectors that can't be written are paid for once"
    assert db.execute("SELECT count(*) FROM reindexer.ledger WHERE outcome = 'FAILED'").fetchone() == (0,)
    assert set(attempts(db)) == {0}, "no try is used"
    assert "check QDRANT_API_KEY and what it may do" in str(problem(db))
    assert all(status(db, each) == ("PENDING", problem(db)) for each in ids)
    assert open_breakers(db) == []
    gate.refuse = lambda body: None
    for _ in range(2):  # what may have been written is looked at again
        work(db, worker)
        ready(db)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in ids.items())
    assert index.holds(changed_id, vector_of("after"))
    assert index.count() == len(ids) + 1
    assert problem(db) is None


def test_a_collection_made_anew_with_other_dimensions_fails_no_item(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """By somebody else, while a worker takes it for the one that it has prepared."""
    first_id = insert(db, "first")
    work(db, worker)
    index.client.delete_collection(COLLECTION)
    index.client.create_collection(
        COLLECTION, vectors_config=models.VectorParams(size=DIMENSIONS * 2, distance=models.Distance.COSINE)
    )
    ids = [insert(db, f"text {n}") for n in range(20)]
    work(db, worker)
    assert {status(db, each) for each in ids} == {("PENDING", problem(db))}
    assert f"holds vectors of {DIMENSIONS * 2} dimensions" in str(problem(db))
    index.client.delete_collection(COLLECTION)
    ready(db)
    work(db, worker)
    assert all(index.holds(item_id, vector_of(f"text {n}")) for n, item_id in enumerate(ids))
    assert problem(db) is None
    assert status(db, first_id) is not None


@pytest.mark.parametrize("code", [400, 403, 413])
@pytest.mark.first(1)
def test_one_payload_that_is_refused_fails_alone(
    db: Connection, worker: Worker, gate: QuotingProxy, index: IndexReader, code: int
) -> None:
    """403: of a firewall that stands before Qdrant."""
    gate.refuse = lambda body: code if "whitepaper" in body else None
    ids = {insert(db, text): text for text in (f"text {n}" for n in range(20))}
    bad_id = insert(db, "text", "a whitepaper")
    work(db, worker)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in ids.items())
    assert index.count() == len(ids)
    failed = status(db, bad_id)
    assert failed is not None
    assert failed[0] == "FAILED"
    assert f"Qdrant answered {code}" in str(failed[1])
    assert problem(db) is None


def test_one_payload_on_which_qdrant_fails_does_not_fail_its_neighbours(
    db: Connection, worker: Worker, gate: QuotingProxy, index: IndexReader
) -> None:
    gate.refuse = lambda body: 500 if "whitepaper" in body else None
    ids = {insert(db, text): text for text in (f"text {n}" for n in range(20))}
    bad_id = insert(db, "text", "a whitepaper")
    for _ in range(2):
        work(db, worker)
        ready(db)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in ids.items()), "at the second try"

    def nothing_is_due() -> bool:
        ready(db)
        work(db, worker)
        return not attempts(db)

    eventually(nothing_is_due, within=20)
    assert status(db, bad_id) == ("FAILED", "Qdrant answered 500")


def test_a_qdrant_that_fails_on_all_is_not_searched_for_a_bad_payload(
    db: Connection, worker: Worker, gate: QuotingProxy
) -> None:
    insert(db, "before")
    work(db, worker)
    worker.policy = replace(worker.policy, base_s=60.0)
    gate.refuse = lambda body: 500 if writes(body) else None
    for n in range(40):
        insert(db, f"text {n}")
    for _ in range(4):
        work(db, worker)
        ready(db)
    assert gate.refused <= 8, "one write a try, and one that changes nothing for each but the first"


@pytest.mark.long
def test_a_key_that_is_rotated_while_edits_come_costs_no_edit(
    db: Connection, processes: Processes, gate: QuotingProxy, index: IndexReader
) -> None:
    processes.listener()
    processes.worker()
    insert(db, "before")
    eventually(lambda: index.count() == 1, within=30)
    gate.refuse = lambda body: 401
    ids = []
    for n in range(10):
        ids.append(insert(db, f"text {n}"))
        eventually(lambda: status(db, ids[-1]) not in (None, ("PENDING", None), ("PROCESSING", None)), within=20)
    assert all(state is not None and state[0] != "FAILED" for state in (status(db, each) for each in ids))
    gate.refuse = lambda body: None
    eventually(lambda: index.count() == 11, within=30)
