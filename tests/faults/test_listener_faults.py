"""The listener is down, half-open, stopped or behind a pooler, and notifications are lost: that costs time, no edit."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import psycopg
import pytest

from reindexer.monitoring.status import listener_state
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually, seconds_until
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes
from tests.support.proxy import cable, waits_for_a_lock
from tests.support.swallow import Swallow

QUICK = {"REINDEXER_POSTGRES_TIMEOUT_S": "2"}
"""A stalled connection is given up after 2 s, a silent leader after 3 s, not after 20 and 30."""


@pytest.fixture
def line(database: str) -> Iterator[tuple[Proxy, str]]:
    """Between a process and Postgres."""
    proxy, url = cable(database)
    with proxy:
        yield proxy, url


def leaders(db: Connection) -> int:
    row = db.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    assert row is not None
    return int(row[0])


def indexed(db: Connection, index: IndexReader, text: str, *, within: float = 10) -> float:
    """Write a new row; seconds until its vector is there."""
    item_id = insert(db, text)
    return seconds_until(lambda: index.holds(item_id, vector_of(text)), within=within)


@pytest.mark.long
def test_a_half_open_listener_notices_and_leads_again(
    db: Connection, processes: Processes, index: IndexReader, line: tuple[Proxy, str]
) -> None:
    """Its connection is taken over by something that keeps it open, on both sides, and passes nothing on."""
    proxy, url = line
    listener = processes.listener(DATABASE_URL=url, **QUICK)
    processes.worker()
    indexed(db, index, "before")
    proxy.freeze()
    took = indexed(db, index, "meanwhile", within=20)
    print(f"half-open with a limit of 2 s: indexed after {took:.1f} s")
    assert "no answer within 2 s" in log_of(listener)
    assert "stale_leader_terminated" in log_of(listener), "its own old session held the lock"
    assert leaders(db) == 1


@pytest.mark.long
def test_a_listener_that_is_cut_off_for_a_while_goes_on(
    db: Connection, processes: Processes, index: IndexReader, line: tuple[Proxy, str]
) -> None:
    proxy, url = line
    listener = processes.listener(DATABASE_URL=url, **QUICK)
    processes.worker()
    proxy.mode = Mode.STALL
    item_id = insert(db, "meanwhile")
    eventually(lambda: "connection_lost" in log_of(listener), within=20)
    proxy.mode = Mode.PASS
    eventually(lambda: index.holds(item_id, vector_of("meanwhile")), within=20)


def test_a_stopped_leader_is_put_down_by_the_standby_and_stands_by_when_it_goes_on(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    leader, standby = processes.listener(**QUICK), processes.listener(**QUICK)
    processes.worker()
    indexed(db, index, "before")
    os.kill(leader.process.pid, signal.SIGSTOP)
    try:
        # A drain that it had sent would still take the next edit.
        eventually(lambda: psutil.Process(leader.process.pid).status() == psutil.STATUS_STOPPED)
        eventually(lambda: not is_asked(db, "reindexer listener"))
        took = indexed(db, index, "meanwhile", within=20)
        print(f"leader stopped with a limit of 3 s: indexed after {took:.1f} s")
        assert "stale_leader_terminated" in log_of(standby)
    finally:
        os.kill(leader.process.pid, signal.SIGCONT)
    eventually(lambda: "leadership_awaited" in log_of(leader), within=20)
    assert "connection_lost" in log_of(leader)
    assert leaders(db) == 1
    indexed(db, index, "after")


@pytest.mark.long
def test_a_leader_that_is_killed_in_a_long_statement_does_not_keep_leading(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    leader = processes.listener()
    processes.worker()
    db.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(14); RETURN NULL; END'"
    )
    db.execute("CREATE TRIGGER slow AFTER INSERT ON reindexer.due FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    item_id = insert(db, "meanwhile")
    eventually(lambda: db.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone())
    standby = processes.listener()
    processes.children.kill(leader)
    eventually(lambda: "leadership_acquired" in log_of(standby), within=10)
    assert leaders(db) == 1
    db.execute("DROP TRIGGER slow ON reindexer.due")
    eventually(lambda: index.holds(item_id, vector_of("meanwhile")), within=20)


def is_asked(db: Connection, application_name: str) -> bool:
    """Whether a statement of such a connection runs."""
    row = db.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = %s AND state = 'active'",
        [application_name],
    ).fetchone()
    return row != (0,)


@pytest.mark.long
def test_behind_a_pooler_the_listener_says_so_and_looks_by_itself(
    db: Connection, processes: Processes, index: IndexReader, database: str, provider: FakeProvider
) -> None:
    swallow = Swallow(active=True)
    proxy, url = cable(database, swallow)
    with proxy:
        listeners = [processes.listener(DATABASE_URL=url) for _ in range(2)]
        processes.worker()
        assert swallow.swallowed >= 2
        assert all("a pooler is in between" in log_of(each) for each in listeners)
        assert all(
            "draining_started" in log_of(each) and "leadership_acquired" not in log_of(each) for each in listeners
        ), "a lock could stay behind in the pool"
        assert leaders(db) == 0
        assert listener_state(db) == "awake"
        took = max(indexed(db, index, f"text {n}") for n in range(3))
        print(f"polling: indexed after {took:.2f} s")
        assert [provider.inputs.count(f"text {n}") for n in range(3)] == [1, 1, 1]
        for each in listeners:
            processes.children.stop(each)
        assert listener_state(db) == "absent"


@pytest.mark.alone
def test_a_lost_notification_costs_the_one_second_timer_at_most(
    db: Connection, processes: Processes, index: IndexReader, database: str
) -> None:
    swallow = Swallow(active=False)
    proxy, url = cable(database, swallow)
    with proxy:
        listener = processes.listener(DATABASE_URL=url)
        processes.worker()
        assert "notify=True" in log_of(listener)
        indexed(db, index, "heard")
        swallow.active = True
        for n in range(3):
            eventually(lambda: listener_state(db) == "asleep")
            took = indexed(db, index, f"unheard {n}")
            print(f"not rung: indexed after {took:.2f} s")
            assert took < 2.0
        assert swallow.swallowed >= 1


@pytest.mark.alone
def test_without_the_bell_edits_are_found_within_a_second(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    listener = processes.listener(REINDEXER_NOTIFY="off")
    processes.worker()
    indexed(db, index, "first")
    assert indexed(db, index, "second") < 1.0
    assert "notify=False" in log_of(listener)
    assert listener_state(db) == "awake"


@pytest.mark.alone
def test_changes_of_a_long_repeatable_read_transaction_are_found_at_its_commit_and_no_core_spins_until_then(
    db: Connection, processes: Processes, index: IndexReader, database: str
) -> None:
    listener = processes.listener()
    processes.worker()
    with psycopg.connect(database) as writer:
        writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        item_id = insert(writer, "long")
        for n in range(5):
            indexed(db, index, f"short {n}")
        busy = psutil.Process(listener.process.pid).cpu_percent(interval=2) / 100
        assert index.payload(item_id) is None
    took = seconds_until(lambda: index.holds(item_id, vector_of("long")))
    print(f"{busy:.2f} of a core while it was open; found {took:.2f} s after the commit")
    assert busy < 0.3
    assert took < 2.0


def test_no_writer_is_told_to_try_again_because_of_us_whatever_its_isolation(
    db: Connection, processes: Processes, index: IndexReader, database: str
) -> None:
    """Serializable transactions fail when what they read and write forms a circle; the outbox must not close one."""
    processes.listener()
    processes.worker()
    with psycopg.connect(database) as first, psycopg.connect(database) as second:
        for each in (first, second):
            each.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        for n in range(20):
            ids = [insert(first, f"first {n}"), insert(second, f"second {n}")]
            first.commit()
            second.commit()
    eventually(lambda: index.holds(ids[0], vector_of("first 19")) and index.holds(ids[1], vector_of("second 19")))
    eventually(lambda: idle(db))
    assert index.count() == 40


STATES = ["asleep", "standing by", "draining_started", "waiting for a lock", "stalled", "cut off", "without a broker"]


@pytest.mark.alone
@pytest.mark.parametrize("state", STATES)
def test_sigterm_ends_the_listener_within_five_seconds(
    db: Connection, processes: Processes, database: str, line: tuple[Proxy, str], redis_url: str, state: str
) -> None:
    proxy, url = line
    with Proxy.before(redis_url) as broker, ExitStack() as stack:
        if state == "standing by":
            processes.listener()
        listener = processes.listener(DATABASE_URL=url, CELERY_BROKER_URL=broker.instead(redis_url))
        if state == "standing by":
            eventually(lambda: "leadership_awaited" in log_of(listener))
        elif state == "asleep":
            eventually(lambda: listener_state(db) == "asleep")
        elif state == "draining_started":
            db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 60000) AS n")
        elif state == "waiting for a lock":
            stack.enter_context(psycopg.connect(database)).execute("LOCK TABLE reindexer.due IN SHARE MODE")
            insert(db, "text")
            eventually(lambda: waits_for_a_lock(db))
        elif state == "stalled":
            proxy.mode = Mode.STALL
        elif state == "cut off":
            proxy.mode = Mode.CUT
            eventually(lambda: "postgres_unavailable" in log_of(listener))
        else:
            broker.mode = Mode.STALL
            insert(db, "text")
        started = time.monotonic()
        assert processes.children.stop(listener) == 0
        assert time.monotonic() - started < 5
        assert "listener_stopped" in log_of(listener)


@pytest.mark.alone
def test_sigterm_ends_a_listener_that_has_not_reached_postgres_yet(
    processes: Processes, line: tuple[Proxy, str]
) -> None:
    proxy, url = line
    proxy.mode = Mode.STALL
    command = [sys.executable, "-m", "reindexer.listen"]
    child = processes.children.start("unready", command, env=processes.env | {"DATABASE_URL": url}, cwd=ROOT)
    eventually(lambda: proxy.connections == 1, within=20)
    started = time.monotonic()
    assert processes.children.stop(child) in (0, 1)
    assert time.monotonic() - started < 5
