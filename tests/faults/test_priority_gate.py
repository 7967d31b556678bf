"""Right of way: what works on a backfill waits for what works on edits, and never for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.testing.provider import Call, FakeProvider
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.worker.concurrency import WorkerPool
from reindexer.worker.priority_gate import GIVE_S, GatePass, PriorityGate
from reindexer.worker.worker import Worker
from tests.support.flow import insert

AT_ONCE_S = 0.3
STREAM_S = 5.0
WITHIN_S = 20.0


@pytest.fixture
def gate() -> PriorityGate:
    """Slow enough that a busy machine makes no difference."""
    return PriorityGate(ahead_s=0.6, give_s=1.2)


@pytest.fixture
def env(env: Mapping[str, str], proxy: Proxy) -> Mapping[str, str]:
    return {**env, "QDRANT_URL": proxy.instead(env["QDRANT_URL"])}


def gave_s(gate: PriorityGate, *, edit: bool = False, left_s: float = 60.0) -> float:
    """How long a claim gives way before its next request."""
    began = time.monotonic()
    GatePass(gate, edit).yield_to_edits(left_s)
    return time.monotonic() - began


@contextmanager
def stream_of_edits(edit: GatePass) -> Iterator[None]:
    """One is always in work, and takes a step again and again; for STREAM_S at most."""
    ended, until = threading.Event(), time.monotonic() + STREAM_S

    def steps() -> None:
        while not ended.is_set() and time.monotonic() < until:
            with edit.taken():
                ended.wait(0.005)

    thread = threading.Thread(target=steps)
    with edit.taken():
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.mark.alone
def test_a_batch_goes_on_once_the_edit_has_taken_its_step(gate: PriorityGate) -> None:
    began, order = threading.Event(), list[str]()

    def step() -> None:
        with GatePass(gate, edit=True).taken():
            began.set()
            threading.Event().wait(0.1)
            order.append("edit")

    thread = threading.Thread(target=step)
    thread.start()
    assert began.wait(WITHIN_S)
    assert gave_s(gate) < 0.1 + AT_ONCE_S
    order.append("batch")
    thread.join()
    assert order == ["edit", "batch"]


@pytest.mark.alone
def test_an_edit_that_waits_for_others_is_waited_for_no_longer(gate: PriorityGate) -> None:
    with GatePass(gate, edit=True).taken():
        assert gave_s(gate) > AT_ONCE_S
        assert gave_s(gate) < AT_ONCE_S
        with GatePass(gate, edit=True).taken():
            assert gave_s(gate) > AT_ONCE_S, "its next step goes ahead again"


@pytest.mark.alone
def test_edits_that_never_end_hold_a_request_up_and_do_not_stop_it(gate: PriorityGate) -> None:
    with stream_of_edits(GatePass(gate, edit=True)):
        assert 1.1 < gave_s(gate) < 1.2 + AT_ONCE_S


@pytest.mark.alone
def test_a_claim_whose_lease_is_nearly_over_gives_way_no_longer(gate: PriorityGate) -> None:
    with GatePass(gate, edit=True).taken():
        assert gave_s(gate, left_s=0.5) < AT_ONCE_S
        assert gave_s(gate, left_s=-0.5) < AT_ONCE_S


@pytest.mark.alone
def test_batches_do_not_wait_for_batches_nor_edits_for_edits(gate: PriorityGate) -> None:
    with GatePass(gate, edit=False).taken():
        assert gave_s(gate) < AT_ONCE_S
    with GatePass(gate, edit=True).taken():
        assert gave_s(gate, edit=True) < AT_ONCE_S


def test_a_batch_gives_way_before_it_asks_the_provider_and_before_it_writes(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    works_on(db, worker, "the first of all makes the collection", Lane.BULK)
    asked = list[float]()
    provider.behave = lambda _: asked.append(time.monotonic())
    with stream_of_edits(worker.pool.gate(Lane.LIVE)):
        began = time.monotonic()
        works_on(db, worker, "text", Lane.BULK)
        ended = time.monotonic()
    assert asked[0] - began > 0.9 * GIVE_S
    assert ended - asked[0] > 0.9 * GIVE_S


def test_an_edit_goes_ahead_while_it_is_worked_on(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    worker.pool = WorkerPool(gate=lambda: PriorityGate(ahead_s=WITHIN_S, give_s=0.2))
    gave = list[float]()

    def batch_meets_it(_: Call) -> None:
        gave.append(batch_gave_s(worker))

    provider.behave = batch_meets_it
    works_on(db, worker, "edited", Lane.LIVE)
    works_on(db, worker, "filled", Lane.BULK)
    assert gave[0] > 0.9 * 0.2
    assert gave[1] < 0.9 * 0.2


def test_an_edit_goes_ahead_already_while_it_is_claimed(db: Connection, database: str, worker: Worker) -> None:
    worker.pool = WorkerPool(gate=lambda: PriorityGate(ahead_s=WITHIN_S, give_s=0.2))
    insert(db, "edited")
    drain(db)
    with psycopg.connect(database) as other, ThreadPoolExecutor(1) as thread:
        other.execute("LOCK TABLE reindexer.due")
        claiming = thread.submit(worker.claim, Lane.LIVE)
        eventually(lambda: db.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
        gave = batch_gave_s(worker)
        other.rollback()
        assert claiming.result() is not None
    assert gave > 0.9 * 0.2


def test_an_edit_goes_ahead_anew_while_it_is_written(
    db: Connection, worker: Worker, provider: FakeProvider, proxy: Proxy
) -> None:
    works_on(db, worker, "the first of all makes the collection", Lane.BULK)
    worker.pool = WorkerPool(gate=lambda: PriorityGate(ahead_s=2.0, give_s=0.2))
    provider.behave = lambda _: time.sleep(2.2)  # until it is ahead no longer
    proxy.matching, proxy.mode = b"PUT /collections/context_items__g1/points?", Mode.HOLD_REQUEST
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(works_on, db, worker, "edited", Lane.LIVE)
        eventually(lambda: proxy.held)
        gave = batch_gave_s(worker)
        proxy.mode = Mode.PASS
        working.result()
    assert gave > 0.9 * 0.2


def batch_gave_s(worker: Worker) -> float:
    began = time.monotonic()
    worker.pool.gate(Lane.BULK).yield_to_edits(WITHIN_S)
    return time.monotonic() - began


def works_on(db: Connection, worker: Worker, text: str, lane: Lane) -> None:
    insert(db, text)
    db.execute("UPDATE reindexer.outbox SET lane = %s", [lane])
    drain(db)
    assert worker.run_lane(lane) == 1
