"""Waits for marks and items: by the API, by `Client`, many at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.main import create_app
from reindexer import Client, UsageError, api_keys
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.drain import drain
from reindexer.queue.waiting import TIMER_S, Waits
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.testing.provider import FakeProvider, error
from reindexer.testing.proxy import Edit
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.pooler import pooler
from tests.support.processes import Processes
from tests.support.proxy import cable
from tests.support.swallow import Swallow

KEY = {"X-API-Key": "test-admin-key"}


@pytest.fixture
def api(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as api:
        yield api


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def refusing(provider: FakeProvider) -> FakeProvider:
    """Refuses texts with `bad` in them."""
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in each for each in call.inputs) else None
    return provider


def begun(waits: Waits, number: int = 1) -> None:
    """Until so many wait, and have been looked at."""
    eventually(lambda: sum(each.next_s > 0 for each in waits._open()) == number)


def waits_of(api: TestClient) -> Waits:
    app: Any = api.app
    waits: Waits = app.state.parts.waits
    return waits


def written(db: Connection, *texts: str) -> tuple[str, list[str]]:
    with db.transaction():
        (token,) = db.execute("SELECT reindexer.mark()").fetchone() or ("",)
        return str(token), [insert(db, each) for each in texts]


def wait(api: TestClient, **body: Any) -> dict[str, Any]:
    answer = api.post("/wait", json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ended(api: TestClient, token: str) -> tuple[dict[str, Any], float]:
    """The answer to a wait, and when it came."""
    return wait(api, after=token, timeout_s=20), time.monotonic()


def test_a_wait_ends_with_the_settle(api: TestClient, db: Connection, worker: Worker) -> None:
    token, ids = written(db, "tea")
    told = wait(api, after=token, timeout_s=0.1)
    assert told["status"] == "timeout"
    assert told["waits_for"] == [{"source": "context_items", "item_id": None, "reason": "changes are not drained yet"}]
    drain(db)
    assert wait(api, after=token, timeout_s=0)["waits_for"][0]["item_id"] == ids[0]
    work(db, worker)
    assert wait(api, after=token) == {"status": "indexed", "failed": [], "waits_for": []}
    late_s = []
    for n in range(7):
        token, _ = written(db, f"tea {n}")
        drain(db)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ended, api, token)
            begun(waits_of(api))
            work(db, worker)
            settled_s = time.monotonic()
            told, ended_s = waiting.result()
        assert told["status"] == "indexed"
        late_s.append(ended_s - settled_s)
    assert median(late_s) < TIMER_S / 5, "they were told by the timer, not by the settle"


def test_a_search_after_a_mark_finds_the_row(api: TestClient, client: Client, db: Connection, worker: Worker) -> None:
    token, ids = written(db, "tea")
    late = api.post("/search", json={"query": "tea", "after": token, "after_timeout_s": 0.1}).json()
    assert (late["after"], late["hits"]) == ("timeout", [])
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(lambda: api.post("/search", json={"query": "tea", "after": token}).json())
        by_client = pool.submit(lambda: client.search("context_items", "tea", after=token))
        begun(waits_of(api))
        begun(client._waits)
        work(db, worker)
        found, by = asked.result(), by_client.result()
    assert (found["after"], [each["item_id"] for each in found["hits"]]) == ("indexed", ids)
    assert (by.after, [each.item_id for each in by.hits]) == ("indexed", ids)
    assert "after" not in api.post("/search", json={"query": "tea"}).json()


def test_a_failed_item_ends_the_wait_with_its_reason(
    api: TestClient, client: Client, db: Connection, worker: Worker, refusing: FakeProvider
) -> None:
    token, ids = written(db, "good", "bad")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (wait(api, after=token, timeout_s=20), time.monotonic()))
        begun(waits_of(api))
        work(db, worker)
        settled_s = time.monotonic()
        told, ended_s = waiting.result()
    assert told["status"] == "failed"
    assert [(each["item_id"], "400" in each["reason"]) for each in told["failed"]] == [(ids[1], True)]
    assert ended_s < settled_s + TIMER_S / 2
    assert client.wait("context_items", ids).status == "failed"
    assert client.wait("context_items", ids[:1]).status == "indexed"
    assert client.wait(token).failed[0].item_id == ids[1]


def test_a_wait_for_a_transaction_that_is_still_open_ends_after_its_commit_or_rollback(
    client: Client, db: Connection, worker: Worker, database: str
) -> None:
    client.wait("context_items", [insert(db, "warm")], timeout_s=0)
    for end, status in (("COMMIT", "indexed"), ("ROLLBACK", "rolled_back")):
        with connect(database, application_name="test") as writer, ThreadPoolExecutor(1) as pool:
            writer.execute("BEGIN")
            (token,) = writer.execute("SELECT reindexer.mark()").fetchone() or ("",)
            waiting = pool.submit(client.wait, str(token), timeout_s=20)
            begun(client._waits)
            assert not waiting.done()
            writer.execute(end)
            assert waiting.result().status == status


def test_items_are_waited_for_by_their_ids(api: TestClient, db: Connection, worker: Worker) -> None:
    ids = [insert(db, "one"), insert(db, "two")]
    told = wait(api, ids=ids, timeout_s=0.1)
    assert (told["status"], {each["item_id"] for each in told["waits_for"]}) == ("timeout", set(ids))
    work(db, worker)
    assert wait(api, ids=[each.upper() for each in ids])["status"] == "indexed"
    assert api.post("/wait", json={"ids": [7]}).status_code == 422
    assert api.post("/wait", json={"ids": ids, "source": "none"}).status_code == 404


def test_what_can_not_be_waited_for_is_told(api: TestClient, client: Client, db: Connection) -> None:
    token, _ = written(db, "tea")
    xact, _, marker = token.split("-")
    forged = f"{xact}-{'0' * 16}-{marker}"
    for body in (
        {},
        {"after": "x"},
        {"after": token, "ids": ["1"]},
        {"after": token, "timeout_s": 61},
        {"after": forged},
    ):
        assert api.post("/wait", json=body).status_code == 422, body
    with pytest.raises(UsageError, match="no token"):
        client.wait("x")
    with pytest.raises(UsageError, match="not one of this database"):
        client.wait(forged)
    with pytest.raises(UsageError):
        client.wait("none", [1])


def test_a_key_is_told_no_more_than_it_may_know(
    api: TestClient, db: Connection, worker: Worker, refusing: FakeProvider
) -> None:
    db.execute("CREATE TABLE other (id bigint PRIMARY KEY, body text)")
    attach(db, Source("other", "public", "other", ("id",), ("body",)))
    token, ids = written(db, "good", "bad")
    keys = {
        "search": api_keys.create(db, "a", who="t", role="search").key,
        "operate": api_keys.create(db, "b", who="t", role="operate").key,
        "other": api_keys.create(db, "d", who="t", role="search", source="other").key,
        "tenant": api_keys.create(db, "c", who="t", role="search", source="context_items", where={"title": "Tea"}).key,
    }

    def told(key: str, **body: Any) -> Any:
        return api.post("/wait", json=body, headers={"X-API-Key": keys[key]})

    drain(db)
    db.execute("UPDATE reindexer.due SET waits_for = 'http://10.1.2.3 is away'")
    assert "10.1.2.3" in told("operate", after=token, timeout_s=0).text
    assert "10.1.2.3" not in told("search", after=token, timeout_s=0).text
    assert ids[0] in told("search", after=token, timeout_s=0).text
    assert told("tenant", ids=ids).status_code == 403
    work(db, worker)
    assert ids[1] in told("search", after=token).text
    hidden = told("tenant", after=token).json()
    assert hidden["failed"] == [{"source": "context_items", "item_id": None, "reason": "an item failed"}]
    elsewhere = told("other", after=token).json()
    assert elsewhere["failed"] == [{"source": "other", "item_id": None, "reason": "an item failed"}]
    assert told("other", ids=ids).status_code == 404


def test_a_server_that_is_told_to_end_answers_those_who_wait(db: Connection, processes: Processes) -> None:
    server, url = processes.api()
    token, _ = written(db, "text")  # and nobody drains
    with httpx.Client(base_url=url, headers=KEY, timeout=30) as http, ThreadPoolExecutor() as pool:
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reindexer api waits'"
        waits = [pool.submit(http.post, "/wait", json={"after": token, "timeout_s": 25}) for _ in range(3)]
        eventually(lambda: db.execute(sessions).fetchone() == (1,))
        server.process.send_signal(signal.SIGTERM)
        answers = [each.result(timeout=20) for each in waits]
        assert {(each.status_code, each.json()["detail"]) for each in answers} == {(503, "the server ends; ask again")}
    assert server.process.wait(20) in (0, -signal.SIGTERM)


def test_a_thousand_waiters_take_one_connection_and_are_told_at_once(
    client: Client, db: Connection, worker: Worker
) -> None:
    client.sources()  # the schema is looked at once
    tokens = [written(db, f"text {n}")[0] for n in range(20)]
    drain(db)
    ended: list[float] = []

    def waits(token: str) -> str:
        status = client.wait(token, timeout_s=30).status
        ended.append(time.monotonic())
        return status

    threads = [threading.Thread(target=waits, args=[tokens[n % 20]]) for n in range(400)]
    for each in threads:
        each.start()
    eventually(lambda: len(client._waits._waits) == 400, within=20)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reindexer client waits'"
    assert db.execute(sessions).fetchone() == (1,)
    work(db, worker)
    for each in threads:
        each.join(timeout=20)
    assert len(ended) == 400


def test_a_lost_notification_costs_a_wait_the_timer(
    db: Connection, worker: Worker, settings: Settings, database: str
) -> None:
    proxy, url = cable(database, Swallow(active=True))
    with proxy, Client(settings.model_copy(update={"listen_database_url": SecretStr(url)})) as client:
        token, _ = written(db, "tea")
        drain(db)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.wait, token, timeout_s=20)
            begun(client._waits)
            work(db, worker)
            since = time.monotonic()
            assert waiting.result().status == "indexed"
            assert time.monotonic() - since < TIMER_S + 0.5


def test_behind_a_pooler_a_wait_looks_by_itself(
    db: Connection, worker: Worker, settings: Settings, database: str
) -> None:
    swallow = Swallow(active=True)

    def edit() -> Edit:
        swallows, pools = swallow(), pooler()
        return lambda chunk: swallows(pools(chunk))

    proxy, url = cable(database, edit)
    with proxy, Client(settings.model_copy(update={"listen_database_url": SecretStr(url)})) as client:
        client.wait("context_items", [insert(db, "warm")], timeout_s=0)  # the connection is there
        late_s = []
        for n in range(7):
            token, _ = written(db, f"tea {n}")
            drain(db)
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(client.wait, token, timeout_s=20)
                begun(client._waits)
                work(db, worker)
                since = time.monotonic()
                assert waiting.result().status == "indexed"
                late_s.append(time.monotonic() - since)
    assert median(late_s) < TIMER_S / 5, "they were told by the timer of those who hear"


def test_an_open_search_waits_for_marks_alone_without_the_key(
    settings: Settings, index: IndexReader, db: Connection, worker: Worker
) -> None:
    token, ids = written(db, "tea")
    work(db, worker)
    with TestClient(create_app(settings.model_copy(update={"search_open": True}))) as api:
        assert wait(api, after=token)["status"] == "indexed"
        assert api.post("/wait", json={"ids": ids}).status_code == 401
        assert api.post("/wait", json={"ids": ids}, headers=KEY).json()["status"] == "indexed"


def test_a_wait_outlives_a_lost_connection(client: Client, db: Connection, worker: Worker) -> None:
    token, _ = written(db, "tea")
    drain(db)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait, token, timeout_s=20)
        ends = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reindexer client waits'"
        )
        eventually(lambda: db.execute(ends).fetchone() is not None)
        work(db, worker)
        assert waiting.result().status == "indexed"


def test_a_closed_client_ends_its_waits_and_waits_again(client: Client, db: Connection, worker: Worker) -> None:
    token, _ = written(db, "tea")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait, token, timeout_s=20)
        begun(client._waits)
        client.close()
        with pytest.raises(Exception, match="ends"):
            waiting.result()
    work(db, worker)
    assert client.wait(token).status == "indexed"
