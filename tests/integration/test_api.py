"""The HTTP API. Routes that need no broker run in this process with dispatch replaced; the rest is a real uvicorn."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from statistics import quantiles
from typing import Any
from urllib.parse import quote

import httpx
import httpx2
import pytest
from celery.result import AsyncResult
from fastapi.testclient import TestClient

from api.dependencies import get_broker
from api.main import create_app
from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.errors import DependencyUnavailable
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

KEY = {"Authorization": "Bearer test-admin-key"}
BULK = "/admin/bulk/regenerate-embeddings"


class SentBroker:
    """Dispatch replaced: notes what would have been sent. (The one thing of ours that tests replace.)"""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    def depth(self, lane: str) -> int:
        return 0

    def send_work(self, lane: str, messages: int) -> None: ...

    def send_requests(self, requests: Sequence[tuple[str, str, str]]) -> int:
        self.sent += requests
        return len(requests)

    def store_results(self, results: Sequence[tuple[str, str, str | None]]) -> None: ...

    def ping(self) -> None: ...


class AwayBroker(SentBroker):
    """A broker that does not answer."""

    def send_requests(self, requests: Sequence[tuple[str, str, str]]) -> int:
        raise DependencyUnavailable("the broker does not answer")


@pytest.fixture
def sent() -> SentBroker:
    return SentBroker()


@pytest.fixture
def client(settings: Settings, sent: SentBroker, index: IndexReader) -> Iterator[TestClient]:
    app = create_app(settings)
    app.dependency_overrides[get_broker] = lambda: sent
    with TestClient(app, headers=KEY, raise_server_exceptions=False) as client:
        yield client


def problem(response: httpx.Response | httpx2.Response, code: int) -> dict[str, Any]:
    """The problem of an answer, after a look at its form."""
    assert response.status_code == code, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = response.json()
    assert body["status"] == code
    assert body["title"]
    assert not re.search("should|Value error", body["detail"])  # a validator's own words
    return body


def test_bulk_answers_202_with_one_task_id_for_each_distinct_id(
    client: TestClient, sent: SentBroker, db: Connection
) -> None:
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    answer = client.post(BULK, json={"context_ids": [one, two, one.upper(), one.replace("-", "")]})
    assert answer.status_code == 202
    body = answer.json()
    assert body["queued_count"] == 2
    assert len(set(body["task_ids"])) == 2
    eventually(lambda: len(sent.sent) == 2)
    assert set(sent.sent) == set(zip(body["task_ids"], ["context_items"] * 2, [one, two], strict=True))
    assert status(db, one) == ("PENDING", None)
    task = client.get(f"/admin/tasks/{body['task_ids'][0]}").json()
    wanted = {"task_id": body["task_ids"][0], "state": "PENDING", "item_id": one, "error": None}
    assert {key: task[key] for key in wanted} == wanted


def test_bulk_empty_context_ids(client: TestClient, sent: SentBroker) -> None:
    answer = client.post(BULK, json={"context_ids": []})
    assert (answer.status_code, answer.json()) == (202, {"queued_count": 0, "task_ids": []})
    assert sent.sent == []


@pytest.mark.parametrize(
    "body",
    [
        {"context_ids": ["not-a-uuid"]},
        {"context_ids": [str(uuid.uuid4()), ""]},
        {"context_ids": [None]},
        {"context_ids": "abc"},
        {"context_ids": [str(uuid.uuid4()) for _ in range(1001)]},
        {},
        [],
    ],
    ids=["malformed", "one malformed", "null", "a string", "too many", "nothing", "a list"],
)
def test_bulk_refuses_and_queues_nothing(client: TestClient, sent: SentBroker, db: Connection, body: object) -> None:
    problem(client.post(BULK, json=body), 422)
    assert db.execute("SELECT count(*) FROM reindexer.request").fetchone() == (0,)
    assert sent.sent == []


def test_too_many_ids_are_told_about_backfills(client: TestClient) -> None:
    ids = [str(uuid.uuid4()) for _ in range(1001)]
    assert "/admin/backfills" in problem(client.post(BULK, json={"context_ids": ids}), 422)["detail"]


def test_bulk_of_an_unknown_source_is_404(client: TestClient) -> None:
    problem(client.post(BULK, json={"context_ids": [str(uuid.uuid4())], "source": "nothing"}), 404)


def test_bulk_is_202_with_the_broker_away_and_the_request_is_kept(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    app: Any = client.app
    app.dependency_overrides[get_broker] = AwayBroker
    item_id = insert(db, "text")
    task_id = client.post(BULK, json={"context_ids": [item_id]}).json()["task_ids"][0]
    work(db, worker)
    assert client.get(f"/admin/tasks/{task_id}").json()["state"] == "SUCCESS"
    assert index.holds(item_id, vector_of("text"))


def test_a_task_goes_from_pending_over_retry_to_failure(
    client: TestClient, db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(500)
    item_id = insert(db, "text")
    task_id = client.post(BULK, json={"context_ids": [item_id]}).json()["task_ids"][0]
    seen = [client.get(f"/admin/tasks/{task_id}").json()["state"]]
    drain(db)
    while seen[-1] not in ("SUCCESS", "FAILURE"):
        worker.run_lane(Lane.LIVE, budget_s=0)
        seen.append(client.get(f"/admin/tasks/{task_id}").json()["state"])
    assert [state for n, state in enumerate(seen) if n == 0 or seen[n - 1] != state] == ["PENDING", "RETRY", "FAILURE"]
    assert len(provider.calls) == 4
    assert "500" in client.get(f"/admin/tasks/{task_id}").json()["error"]
    past = client.get(f"/admin/items/context_items/{item_id}").json()["history"]
    assert [(request["task_id"], request["succeeded"]) for request in past] == [(task_id, False)]


def test_an_unknown_task_is_404(client: TestClient) -> None:
    problem(client.get(f"/admin/tasks/{uuid.uuid4()}"), 404)


def test_admin_routes_are_closed_without_the_key(client: TestClient) -> None:
    paths = ["/admin/tasks/x", "/admin/items/context_items/x", "/admin/status", "/context-items"]
    routes = [("POST", BULK), ("POST", "/search"), ("POST", "/similar"), *(("GET", path) for path in paths)]
    wrong_keys = [
        {"Authorization": b""},
        {"Authorization": b"Bearer wrong"},
        {"Authorization": b"", "X-API-Key": "wröng".encode()},
    ]
    for method, path in routes:
        for headers in wrong_keys:
            answer = client.request(method, path, headers=headers, json={})  # type: ignore[arg-type]
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/admin/status", headers={"Authorization": "", "X-API-Key": "test-admin-key"}).status_code == 200


def test_admin_routes_are_503_until_a_key_is_set(settings: Settings, sent: SentBroker) -> None:
    app = create_app(settings.model_copy(update={"admin_api_key": None}))
    with TestClient(app, headers=KEY) as client:
        assert "REINDEXER_ADMIN_API_KEY" in problem(client.get("/admin/status"), 503)["detail"]


def test_every_error_is_a_problem_and_echoes_no_input(client: TestClient) -> None:
    problem(client.get("/nowhere"), 404)
    problem(client.put("/search"), 405)
    answer = client.post("/search", content=b'{"query": "secret', headers={"Content-Type": "application/json"})
    assert "secret" not in str(problem(answer, 422))
    assert "secret" not in str(problem(client.post("/search", json={"query": 1, "x": "secret"}), 422))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"query": 1, "limit": "many"}, "body.limit: must be a whole number; body.query: must be text"),
        ({"query": "  ", "limit": 0}, "body.limit: must be at least 1; body.query: must not be empty"),
        ({"query": "x", "limit": 1000}, "body.limit: must be at most 100"),
        ({"query": "nul \x00"}, "body.query: must not contain the NUL character"),
        ({}, "body.query: is missing"),
        ([], "body: must be an object"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_in_our_own_words(client: TestClient, body: object, detail: str) -> None:
    assert problem(client.post("/search", json=body), 422)["detail"] == detail


def test_a_body_over_the_limit_is_413_also_in_chunks(client: TestClient) -> None:
    problem(client.post("/search", content=b"x" * (3 << 20)), 413)
    problem(client.post("/search", content=(b"x" * (1 << 20) for _ in range(3))), 413)


def test_search_finds_what_was_indexed(client: TestClient, db: Connection, worker: Worker) -> None:
    ids = [insert(db, f"text {n}", "A title") for n in range(5)]
    work(db, worker)
    answer = client.post("/search", json={"source": "context_items", "query": "A title\ntext 3", "limit": 2})
    assert answer.status_code == 200
    hits = answer.json()["hits"]
    assert len(hits) == 2
    assert hits[0]["item_id"] == ids[3]
    assert hits[0]["payload"]["title"] == "A title"
    problem(client.post("/search", json={"source": "nothing", "query": "x"}), 404)


def test_why_tells_what_is_wanted_and_what_is_indexed(client: TestClient, db: Connection, worker: Worker) -> None:
    item_id = insert(db, "text")
    assert client.get(f"/admin/items/context_items/{item_id}").json()["status"] == "PENDING"
    work(db, worker)
    indexed = client.get(f"/admin/items/context_items/{item_id}").json()
    assert indexed["status"] == "COMPLETED"
    assert indexed["wanted"] == indexed["indexed"]
    db.execute("UPDATE context_items SET content = 'other'")
    changed = client.get(f"/admin/items/context_items/{item_id}").json()
    assert changed["status"] == "PENDING"
    assert changed["wanted"] != changed["indexed"]
    problem(client.get(f"/admin/items/context_items/{uuid.uuid4()}"), 404)


def test_status_has_the_documented_keys(client: TestClient, db: Connection) -> None:
    insert(db, "text")
    found = client.get("/admin/status").json()
    assert found["outbox"] == 1
    assert found["listener"] == "absent"
    assert found["triggers"] == "ok"
    keys = {"outbox", "pending", "processing", "failed", "healing", "completed", "oldest_change_age_s", "listener", "workers", "triggers", "breakers", "sources"}  # fmt: skip
    assert keys <= set(found)
    db.execute("ALTER TABLE context_items DISABLE TRIGGER reindexer_context_items_insert")
    assert client.get("/admin/status").json()["triggers"] == "disabled"
    db.execute("DROP TRIGGER reindexer_context_items_insert ON context_items")
    assert client.get("/admin/status").json()["triggers"] == "missing"


@pytest.mark.parametrize("key", ["a\nb", "\n", "", "a/b", "a\n"], ids=repr)
def test_an_item_is_told_by_its_key_with_line_breaks_too(client: TestClient, db: Connection, key: str) -> None:
    db.execute("CREATE TABLE k (id text PRIMARY KEY, body text)")
    attach(db, Source("k", "public", "k", ("id",), ("body",)))
    db.execute("INSERT INTO k VALUES (%s, 'x')", [key])
    answer = client.get(f"/admin/items/k/{quote(key, safe='')}")
    assert (answer.status_code, answer.json()["item_id"]) == (200, key)


def test_context_items_can_be_made_read_changed_paged_and_deleted(client: TestClient, db: Connection) -> None:
    made = client.post("/context-items", json={"title": "T", "content": "C", "metadata": {"a": [1]}})
    assert made.status_code == 201
    url = made.headers["location"]
    assert client.get(url).json()["metadata"] == {"a": [1]}
    changed = client.patch(url, json={"content": "D"}).json()
    assert (changed["title"], changed["content"]) == ("T", "D")
    assert changed["updated_at"] > changed["created_at"]
    for n in range(5):
        insert(db, f"text {n}")
    seen, cursor = [], None
    while True:
        page = client.get("/context-items", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(set(seen)) == len(seen) == 6
    assert client.delete(url).status_code == 204
    problem(client.get(url), 404)
    problem(client.post("/context-items", json={"content": "nul \x00"}), 422)
    problem(
        client.post("/context-items", content=b'{"content": "\\ud800"}', headers={"Content-Type": "application/json"}),
        422,
    )


def test_readyz_names_what_is_away(processes: Processes, env: Mapping[str, str]) -> None:
    _, url = processes.api(QDRANT_URL="http://127.0.0.1:9")
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    body = problem(httpx.get(f"{url}/readyz", timeout=10), 503)
    assert "qdrant" in body["detail"]
    assert "listener" in body["detail"]
    assert body["checks"]["postgres"] == "ok"
    assert body["checks"]["broker"] == "ok"


def test_bulk_regeneration_e2e(
    db: Connection, processes: Processes, broker: CeleryBroker, index: IndexReader, provider: FakeProvider
) -> None:
    processes.listener()
    worker = processes.worker()
    _, url = processes.api()
    eventually(lambda: httpx.get(f"{url}/readyz", timeout=10).status_code == 200)
    ids = [insert(db, f"text {n}") for n in range(20)]
    missing = str(uuid.uuid4())
    body = httpx.post(f"{url}{BULK}", headers=KEY, json={"context_ids": [*ids, missing]}).json()
    assert body["queued_count"] == len(body["task_ids"]) == 21

    def state(task_id: str) -> str:
        return str(httpx.get(f"{url}/admin/tasks/{task_id}", headers=KEY).json()["state"])

    eventually(lambda: all(state(t) in ("SUCCESS", "FAILURE") for t in body["task_ids"]), within=30)
    assert [state(t) for t in body["task_ids"]] == ["SUCCESS"] * 20 + ["FAILURE"]
    results = [AsyncResult(t, app=broker.app) for t in body["task_ids"]]
    eventually(lambda: [r.state for r in results] == ["SUCCESS"] * 20 + ["FAILURE"])
    eventually(lambda: all(t in log_of(worker) for t in body["task_ids"]))
    assert all(index.holds(i, vector_of(f"text {n}")) for n, i in enumerate(ids))


@pytest.mark.alone
def test_bulk_answers_fast_and_a_broker_that_comes_back_gets_the_work_done(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    """p95 over 20 calls with no worker running: 100 ids ≤ 100 ms, 1,000 ids ≤ 600 ms."""
    child, url = processes.api()
    with httpx.Client(base_url=url, headers=KEY, timeout=10) as client:

        def p95_ms(count: int) -> float:
            spent = []
            for _ in range(20):
                ids = [str(uuid.uuid4()) for _ in range(count)]
                started = time.perf_counter()
                assert client.post(BULK, json={"context_ids": ids}).json()["queued_count"] == count
                spent.append((time.perf_counter() - started) * 1000)
            return quantiles(spent, n=20)[-1]

        hundred, thousand = p95_ms(100), p95_ms(1000)
    processes.children.kill(child)  # it would take five seconds to send what is unsent
    print(f"bulk p95: 100 ids {hundred:.0f} ms, 1,000 ids {thousand:.0f} ms")
    assert hundred <= 100
    assert thousand <= 600


@pytest.mark.alone
def test_bulk_with_the_broker_away_is_202_within_two_seconds_and_done_when_it_is_back(
    db: Connection, processes: Processes, index: IndexReader, tmp_path: Any
) -> None:
    from reindexer.embedded.children import Children, free_port
    from reindexer.embedded.redis import start_redis

    port = free_port()
    url_of_broker = f"redis://127.0.0.1:{port}/0"
    processes.env["CELERY_BROKER_URL"] = url_of_broker
    _, url = processes.api()
    processes.listener()
    item_id = insert(db, "text")
    started = time.monotonic()
    answer = httpx.post(f"{url}{BULK}", headers=KEY, json={"context_ids": [item_id]}, timeout=10)
    assert time.monotonic() - started < 2
    assert answer.status_code == 202
    task_id = answer.json()["task_ids"][0]
    with Children(tmp_path / "broker") as children:
        start_redis(children, tmp_path, port=port)
        worker = processes.worker()
        eventually(lambda: index.holds(item_id, vector_of("text")), within=30)
        eventually(lambda: task_id in log_of(worker), within=30)
        processes.children.stop_together()


def test_the_page_of_the_routes_needs_no_internet(client: TestClient) -> None:
    page = client.get("/docs").text
    assets = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(assets) >= 2
    for asset in assets:
        assert asset.startswith("/")
        assert client.get(asset).status_code == 200
