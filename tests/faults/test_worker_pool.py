"""Several claims in one process at once: what that is for, and what must not come of it."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace

import pytest

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.errors import TransientError
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.testing.provider import Call, FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.concurrency import WorkerPool
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

WITHIN_S = 20.0


def slow(_: Call) -> None:
    """The provider takes its time."""
    threading.Event().wait(0.2)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_process_has_several_edits_in_flight_while_the_provider_takes_its_time(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, pool: str
) -> None:
    both = threading.Barrier(2, timeout=WITHIN_S)

    def answers_when_both_have_come(call: Call) -> None:
        both.wait()

    provider.behave = answers_when_both_have_come
    processes.listener()
    processes.worker(pool=pool, concurrency=1)
    insert(db, "first")
    eventually(lambda: provider.calls, within=WITHIN_S)
    insert(db, "second")
    eventually(lambda: index.count() == 2, within=WITHIN_S)
    assert not both.broken


def test_an_edit_is_not_held_up_by_the_batches_of_a_backfill(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, broker: CeleryBroker
) -> None:
    edited = threading.Event()

    def holds_all_but_the_edit(call: Call) -> None:
        if "edit" in call.inputs:
            edited.set()
        edited.wait(3 * WITHIN_S)

    provider.behave = holds_all_but_the_edit
    for n in range(12):
        insert(db, f"filled {n}")
    db.execute("UPDATE reindexer.outbox SET lane = 'bulk'")
    processes.listener(REINDEXER_BATCH_SIZE="2")
    processes.worker(concurrency=1, REINDEXER_BATCH_SIZE="2")
    eventually(lambda: len(provider.calls) == 2, within=WITHIN_S, what="as many as one process has helpers")
    eventually(lambda: broker.depth(Lane.BULK) == 0, within=WITHIN_S, what="the other messages are taken, too")
    insert(db, "edit")
    arrived = edited.wait(WITHIN_S / 2)
    edited.set()
    assert arrived
    eventually(lambda: index.count() == 13, within=WITHIN_S)


def test_a_worker_that_is_told_to_end_settles_what_it_has_in_flight_and_begins_nothing_more(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = slow
    for n in range(40):
        insert(db, f"text {n}")
    db.execute("UPDATE reindexer.outbox SET lane = 'bulk'")
    processes.listener()
    worker = processes.worker(concurrency=1, REINDEXER_BATCH_SIZE="1", REINDEXER_CLAIMS_IN_FLIGHT="1")
    eventually(lambda: provider.calls, within=WITHIN_S)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(WITHIN_S) == 0
    done = len(provider.inputs)
    assert done < 40
    assert db.execute("SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED'").fetchone() == (done,)
    assert db.execute("SELECT count(*) FROM reindexer.due WHERE lease_until IS NOT NULL").fetchone() == (0,)
    assert index.count() == done


def test_so_many_helpers_of_a_lane_are_at_work_and_no_more() -> None:
    pool, end = WorkerPool(2), threading.Event()
    assert [pool.submit(Lane.BULK, lambda: end.wait(WITHIN_S)) for _ in range(3)] == [True, True, False]
    assert pool.submit(Lane.LIVE, lambda: end.wait(WITHIN_S))
    end.set()
    pool.close()
    assert not pool.submit(Lane.LIVE, end.wait)


@pytest.mark.parametrize(
    ("lane", "provider_s", "edited", "most"),
    [
        (Lane.BULK, 0.05, False, 2), ("bulk", 0.2, False, 4), ("bulk", 5.0, False, 2), ("bulk", 0.2, True, 2),
        (Lane.LIVE, 0.2, True, 2),
    ],
    ids=["quick", "far away", "busy", "far away, and there are edits", "the edits themselves"],
)  # fmt: skip
def test_a_backfill_has_twice_the_helpers_while_the_provider_is_far_away_and_nobody_edits(
    lane: Lane, provider_s: float, edited: bool, most: int
) -> None:
    pool, end = WorkerPool(2), threading.Event()
    pool.note(lane, 1.0, provider_s)
    if edited:
        pool.note(Lane.LIVE, 1.0, provider_s)
    assert [pool.submit(lane, lambda: end.wait(WITHIN_S)) for _ in range(5)].count(True) == most
    end.set()
    pool.close()


def test_helpers_that_are_too_many_once_there_are_edits_stop_after_their_batch_and_no_others() -> None:
    pool, end, decided = WorkerPool(2), threading.Event(), list[bool]()
    all_are = threading.Barrier(5)

    def batches() -> None:
        assert pool.goes_on()
        all_are.wait(WITHIN_S)  # in their first batch
        all_are.wait(WITHIN_S)  # told of an edit
        decided.append(goes_on := pool.goes_on())
        all_are.wait(WITHIN_S)  # asked, before any has gone
        if goes_on:
            end.wait(WITHIN_S)

    pool.note(Lane.BULK, 1.0, 0.2)
    assert all(pool.submit(Lane.BULK, batches) for _ in range(4))
    all_are.wait(WITHIN_S)
    pool.note(Lane.LIVE, 1.0, 0.2)
    all_are.wait(WITHIN_S)
    all_are.wait(WITHIN_S)
    assert decided.count(True) == 2
    assert not pool.submit(Lane.BULK, end.wait), "two are at work"
    end.set()
    pool.close()


def test_a_suspect_is_worked_on_with_nothing_beside_it() -> None:
    pool, seen = WorkerPool(8), list[str]()
    first, let_go = threading.Event(), threading.Event()

    def ordinary(name: str) -> None:
        with pool.beside_others():
            seen.append(name)
            first.set()
            assert let_go.wait(WITHIN_S)

    def suspect() -> None:
        with pool.alone():
            seen.append("suspect")
            threading.Event().wait(0.05)  # long enough for one that does not wait to be seen
            seen.append("suspect done")

    assert pool.submit(Lane.LIVE, lambda: ordinary("before"))
    assert first.wait(WITHIN_S)

    def is_held_up() -> bool:
        passed = threading.Event()

        def behind() -> None:
            with pool.beside_others():
                passed.set()
                seen.append("behind")

        assert pool.submit(Lane.LIVE, behind)
        if not passed.wait(1.5):
            return True
        eventually(lambda: "behind" in seen)
        seen.remove("behind")  # it came before the suspect did
        return False

    assert pool.submit(Lane.LIVE, suspect)
    try:
        eventually(is_held_up, within=10)
        assert seen == ["before"]
    finally:
        let_go.set()
    pool.close()
    assert seen == ["before", "suspect", "suspect done", "behind"]


@pytest.mark.parametrize(
    ("edit", "is_slow", "claimed"), [(True, False, 2), (False, False, 4), (True, True, 4)],
    ids=["edits", "no edits", "edits, and the provider takes its time"],
)  # fmt: skip
def test_batches_of_a_backfill_are_half_as_large_while_there_are_edits(
    db: Connection, worker: Worker, provider: FakeProvider, edit: bool, is_slow: bool, claimed: int
) -> None:
    def makes_due(texts: int, lane: str, *, there: bool = True) -> None:
        for n in range(texts):
            insert(db, f"text {n} of {lane}")
        if not there:
            db.execute("DELETE FROM context_items")
        db.execute("UPDATE reindexer.outbox SET lane = %s", [lane])
        drain(db)

    worker.limits = replace(worker.limits, batch_size=4)
    makes_due(1, "bulk", there=is_slow)  # for what is gone no provider is asked
    provider.behave = slow
    assert worker.run_lane(Lane.BULK) == 1
    if edit:
        makes_due(1, "live")
        assert worker.run_lane(Lane.LIVE) == 1
    makes_due(8, "bulk")
    claim = worker.claim(Lane.BULK)
    assert claim is not None
    assert len(claim.items) == claimed


def test_work_that_fails_leaves_its_place() -> None:
    pool = WorkerPool(1)
    for _ in range(2):
        with pytest.raises(TransientError), pool.beside_others():
            raise TransientError("away")
        with pytest.raises(TransientError), pool.alone():
            raise TransientError("away")
    pool.close()
