"""What a busy and a broken system export, recorded in tests/scrapes: tests/test_dashboard.py evaluates queries on it. With
RECORD=1 in the environment these tests record anew; without it they look whether the program still exports what is there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

import httpx
import pytest

from reindexer.budgets import set_budget
from reindexer.embedded.children import free_port
from reindexer.monitoring.metrics import AT_RUN_TIME, METRICS
from reindexer.postgres.connect import Connection, connect
from reindexer.sources.pause import set_paused
from reindexer.testing.provider import Call, FakeProvider, error
from reindexer.testing.provider import Reply as Embedded
from reindexer.testing.waiting import eventually
from tests.support.commands import Done
from tests.support.events import listen
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.receiver import Receiver, Reply
from tests.support.scrapes import FOLDER, Scrape, read, recorded

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

COUNTED_S = 6.0
"""So long after an event a counter has told of it."""


def test_a_busy_system_exports_what_is_recorded(
    db: Connection, database: str, processes: Processes, provider: FakeProvider, env: Mapping[str, str]
) -> None:
    provider.behave = Busy()
    processes.env |= {"REINDEXER_PRICE_PER_MILLION_TOKENS": "0.02"}
    set_budget(db, who="test", kind="indexing", period="day", usd=5.0)
    receiver = Receiver()
    receiver.plan = lambda _: Reply(500 if len(receiver.asked) % 20 == 0 else 204)
    listen(db, receiver)
    processes.listener()
    processes.worker()
    _, url = processes.api()
    insert(db, "a heron stands in the reeds")
    with closing(receiver), edits(database, url, env):
        eventually(lambda: settled(scrape(url), "live") > 5, within=30, every=1)
        db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 20000) n")
        eventually(lambda: settled(scrape(url), "bulk") > 0, within=60, every=1)
        told(url, "busy-1")
        time.sleep(2 * COUNTED_S)
        busy = told(url, "busy-2")
    assert (
        busy["reindexer_due_items", frozenset({("source", "context_items"), ("lane", "bulk"), ("state", "ready")})] > 0
    )


def test_a_broken_system_exports_what_is_recorded(
    db: Connection,
    processes: Processes,
    provider: FakeProvider,
    index: IndexReader,
    here: Callable[..., Done],
    env: Mapping[str, str],
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    assert here("attach", "notes", "--table", "public.notes", "--text", "body", env=env).returncode == 0
    receiver = Receiver()
    receiver.close()
    listen(db, receiver)
    provider.behave = lambda call: error(400, "invalid_input") if "refused" in call.inputs else None
    listener, worker = processes.listener(), processes.worker()
    _, url = processes.api(QDRANT_URL=f"http://127.0.0.1:{free_port()}")
    insert(db, "taken")
    insert(db, "refused")
    eventually(lambda: scrape(url)["reindexer_failed_items", frozenset({("source", "context_items")})] == 1, within=30)
    told(url, "broken-1")
    db.execute("ALTER TABLE notes DROP COLUMN body")
    insert(db, "it finds out that the provider is away")
    provider.behave = lambda call: error(502)
    for n in range(8):
        insert(db, f"waits for the provider {n}")
    eventually(lambda: scrape(url)["reindexer_breaker_open", frozenset({("dependency", "provider")})] == 1, within=60)
    eventually(lambda: scrape(url)["reindexer_source_problem", frozenset({("source", "notes")})] == 1, within=40)
    time.sleep(COUNTED_S)
    processes.children.kill(worker)
    processes.children.kill(listener)
    db.execute("UPDATE reindexer.process SET beat_at = beat_at - interval '100 s'")  # as if that much time had passed
    set_paused(db, "context_items", paused=True, who="test")
    set_budget(db, who="test", kind="search", period="day", usd=5.0)
    db.execute("UPDATE reindexer.budget SET closed_at = now()")  # as if a search had found it used up
    insert(db, "nobody moves it")
    db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
    broken = told(url, "broken-2")
    assert broken["reindexer_listener_state", frozenset({("state", "absent")})] == 1
    assert broken["reindexer_processes", frozenset({("role", "worker"), ("state", "silent")})] == 1
    assert broken["reindexer_dependency_up", frozenset({("dependency", "qdrant")})] == 0


class Busy:
    """A provider that takes a while, and does not always answer well."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, call: Call) -> Embedded | None:
        self._calls += 1
        time.sleep(2 if len(call.inputs) > 8 else 0.02)
        if self._calls % 20 == 0:
            return error(503)
        return error(429, headers={"Retry-After": "0.2"}) if self._calls % 31 == 0 else None


@contextmanager
def edits(database: str, url: str, env: Mapping[str, str]) -> Iterator[None]:
    """Ten edits and two searches a second meanwhile."""
    ended = threading.Event()

    def edit() -> None:
        headers = {"X-API-Key": env["REINDEXER_ADMIN_API_KEY"]}
        with connect(database, application_name="test") as sql:
            n = 0
            while not ended.wait(0.1):
                n += 1
                sql.execute("UPDATE context_items SET content = %s WHERE content LIKE 'a heron%%'", [f"a heron {n}"])
                if n % 5 == 0:
                    httpx.post(f"{url}/search", json={"query": f"reeds {n}"}, headers=headers, timeout=20)

    editing = threading.Thread(target=edit)
    editing.start()
    try:
        yield
    finally:
        ended.set()
        editing.join()


def text(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=20).raise_for_status().text


def scrape(url: str) -> Scrape:
    return recorded(text(url))


def settled(now: Scrape, lane: str) -> float:
    return sum(
        value for (name, labels), value in now.items()
        if name == "reindexer_items_settled_total" and ("lane", lane) in labels
    )  # fmt: skip


def told(url: str, name: str) -> Scrape:
    """Scrape, and record it or compare it with what is recorded."""
    now, file = text(url), FOLDER / f"{name}.txt"
    if os.environ.get("RECORD"):
        file.write_text(now, encoding="utf-8")
    assert known(read(file)) <= known(recorded(now)), "record anew"
    return recorded(now)


def known(scraped: Scrape) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Its series, without the values of labels that are not known beforehand."""
    return {
        (name, frozenset((label, "" if at_run_time(name, label) else value) for label, value in labels))
        for name, labels in scraped
    }


def at_run_time(name: str, label: str) -> bool:
    metric = METRICS.get(name)
    return metric is not None and metric.labels.get(label) == AT_RUN_TIME
