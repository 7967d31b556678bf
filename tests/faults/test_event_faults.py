"""A receiver that is killed, slow, refuses and is away; senders that are killed; a server that crashes."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from reindexer.adapters.webhook import HttpWebhooks
from reindexer.core.event import Bounds, SendingRules
from reindexer.core.retry import RetryPolicy
from reindexer.events import outbox, receivers
from reindexer.index.ownership import identity
from reindexer.listener.sender import Sender
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.postgres.connect import Connection, connect
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.events import edit, listen, note, wrong
from tests.support.flow import idle, insert, work
from tests.support.processes import Processes
from tests.support.receiver import Plan, Receiver, Reply

RULES = SendingRules(Bounds(100_000, 86_400), RetryPolicy(base_s=0.05, max_s=0.5), timeout_s=0.5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


PHASES = (Reply(), Reply(500), Reply(wait_s=0.05), Reply(dies=True), Reply(), Reply(500, wait_s=1.5))
"""In the fifth nothing listens."""


def always(reply: Reply) -> Plan:
    return lambda _: reply


def all_taken(db: Connection, within: float) -> None:
    eventually(lambda: idle(db) and not any(each.waiting for each in receivers.all_receivers(db)), within=within)


def test_whatever_a_receiver_does_it_gets_each_items_last_event_in_order(
    db: Connection, database: str, worker: Worker, receiver: Receiver
) -> None:
    listen(db, receiver)
    note(db)
    receiver.patience_s = RULES.timeout_s
    dice, ids, ended = random.Random(7), list[str](), threading.Event()
    plans = (
        Reply(wait_s=0.02), Reply(500), Reply(500, wait_s=0.7), Reply(dies=True), Reply(), Reply(429, {"Retry-After": "0.2"}),
    )  # fmt: skip
    receiver.plan = lambda message: plans[int(message.at / 0.3) % len(plans)]

    def working() -> None:
        while not ended.is_set():
            with connect(database, application_name="test work") as own:
                work(own, worker)

    sender = Sender(
        lambda: connect(database, application_name="reindexer events"),
        HttpWebhooks(),
        RULES,
        MetricsBuffer(),
        dice.random,
    )
    thread = threading.Thread(target=working)
    thread.start()
    try:
        with sender:
            for number in range(400):
                edit(db, dice, ids, number)
                if number == 200:
                    receiver.die()
                elif number == 300:
                    receiver.open()
                time.sleep(0.005)
            receiver.plan = lambda _: Reply()
            all_taken(db, within=20)
    finally:
        ended.set()
        thread.join()
    assert not receiver.disorder()
    assert not receiver.twice_at_once
    assert not receiver.refused
    assert not wrong(db, receiver)
    assert receiver.asked != receiver.taken


def test_what_is_sent_is_on_disk_whatever_the_session_is_set_to(
    db: Connection, database: str, worker: Worker, receiver: Receiver
) -> None:
    listen(db, receiver)
    insert(db, "text")
    work(db, worker)
    with connect(database, application_name="test") as sending:
        sending.execute("SET synchronous_commit = off")
        (written,) = sending.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("",)
        taken = outbox.take(sending, "hook", sender="me", identity=str(identity(db, None)), lease_s=5, most=10)
        assert taken is not None
        assert len(taken.events) == 1
        (on_disk,) = sending.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", [written]).fetchone() or (
            False,
        )
        assert on_disk


@pytest.mark.long
@pytest.mark.timeout(900)
def test_under_20000_edits_a_receiver_gets_each_items_last_event_whatever_becomes_of_it_and_of_listeners(
    db: Connection, processes: Processes, receiver: Receiver
) -> None:
    """A receiver that is killed and opened again, slow, answers 500, and is away; two listeners, whose leader is killed
    again and again; two workers, of which one is."""
    listen(db, receiver)
    note(db)
    receiver.patience_s = 1.0
    dice, ids = random.Random(20_000), list[str]()
    settings: Mapping[str, str] = {"REINDEXER_EVENTS_TIMEOUT_S": "1", "REINDEXER_EVENTS_RETRY_MAX_S": "2"}
    listeners = [processes.listener(**settings), processes.listener(**settings)]
    processes.worker(pool="threads", concurrency=2)
    began = time.monotonic()
    for number in range(20_000):
        edit(db, dice, ids, number)
        if number % 1000 == 999:
            time.sleep(2)  # each of the faults lasts for some seconds
            phase = number // 1000 % 6
            receiver.plan = always(PHASES[phase])
            if phase == 4:
                receiver.die()
            elif receiver.is_dead:
                receiver.open()
            if phase == 2:
                os.kill(listeners[0].process.pid, signal.SIGKILL)
                listeners = [listeners[1], processes.listener(**settings)]
    if receiver.is_dead:
        receiver.open()
    edited_s = time.monotonic() - began
    receiver.plan = lambda _: Reply()
    all_taken(db, within=600)
    print(f"20,000 edits in {edited_s:.0f} s; all taken {time.monotonic() - began - edited_s:.0f} s later;"
          f" asked {len(receiver.asked)}, taken {len(receiver.taken)}")  # fmt: skip
    assert not receiver.disorder()
    assert not receiver.twice_at_once
    assert not receiver.refused
    assert not wrong(db, receiver)
