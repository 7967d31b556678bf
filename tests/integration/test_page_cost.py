"""What ten open pages cost: the CPU of the API and of Postgres together, with and without a backfill beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from api.page.session import COOKIE, PAGE_HEADER
from reindexer.backfills import runs
from reindexer.postgres.connect import Connection
from reindexer.testing.waiting import eventually
from tests.support.cpu import cpu_s, family_s, percent, postmaster_of
from tests.support.flow import idle
from tests.support.processes import Processes
from tests.support.tenants import OTHERS, attach_tenants

PAGES = 10
WINDOW_S = 15.0
IDLE_PERCENT = 2.0
BUSY_PERCENT = 5.0
"""Of one core."""
ROWS = 40_000


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_ten_open_pages_cost_next_to_nothing(
    processes: Processes, db: Connection, record_property: Callable[[str, object], None]
) -> None:
    attach_tenants(db)
    processes.listener()
    processes.start_worker(pool="solo", concurrency=1)
    child, url = processes.api()
    eventually(lambda: idle(db), within=60)
    api, server = psutil.Process(child.process.pid), psutil.Process(postmaster_of(db))
    commits = commits_of(db)
    nobody = percent(lambda: cpu_s(api) + family_s(server), WINDOW_S)
    alone = commits_of(db) - commits
    with pages(url):
        commits = commits_of(db)
        looking = percent(lambda: cpu_s(api) + family_s(server), WINDOW_S)
        more = (commits_of(db) - commits - alone) / WINDOW_S
        db.execute("INSERT INTO others SELECT n, 'acme', 'tea of ' || n FROM generate_series(100, %s) n", [100 + ROWS])
        runs.start(db, OTHERS, where=None, force=True, who="test")
        eventually(lambda: not idle(db), within=10)
        # The backfill is at work in Postgres, too: of Postgres, only the API's own sessions are counted.
        busy = percent(lambda: cpu_s(api) + sessions_s(db), WINDOW_S)
        assert not idle(db)
    record_property("percent", {"idle": looking - nobody, "backfill": busy, "commits": more})
    print(f"idle {looking - nobody:.2f} %, beside a backfill {busy:.2f} %, {more:.1f} commits/s more")
    assert looking - nobody < IDLE_PERCENT
    assert busy < BUSY_PERCENT


def sessions_s(db: Connection) -> float:
    found = db.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'reindexer api%'").fetchall()
    return sum(cpu_s(psutil.Process(pid)) for (pid,) in found)


def commits_of(db: Connection) -> int:
    (commits,) = db.execute(
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone() or (0,)
    return int(commits)


@contextmanager
def pages(url: str) -> Iterator[None]:
    """Pages that look at the overview: each holds its stream open and reads it."""
    closed = threading.Event()
    with httpx.Client(base_url=url) as client:
        headers = {PAGE_HEADER: "1", "Sec-Fetch-Site": "same-origin"}
        client.post("/page/session", json={"key": "test-admin-key"}, headers=headers).raise_for_status()
        cookie = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    seen: list[int] = []

    def look(number: int) -> None:
        with httpx.stream("GET", f"{url}/page/overview", headers=cookie, timeout=30) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    seen.append(number)
                if closed.is_set():
                    return

    threads = [threading.Thread(target=look, args=[number], daemon=True) for number in range(PAGES)]
    for each in threads:
        each.start()
    eventually(lambda: set(seen) == set(range(PAGES)), within=20)
    time.sleep(5)
    yield
    closed.set()
    for each in threads:
        each.join(10)
