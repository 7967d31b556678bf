"""Reconcile by the API: progress and result line by line, one at a time, and no longer than somebody listens."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.comparisons import Comparisons
from api.main import create_app
from reindexer import api_keys
from reindexer.core.items import point_id
from reindexer.index.reconcile import Progress
from reindexer.postgres.connect import Connection
from reindexer.reconciling import Reconciled
from reindexer.settings import Settings
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.index_reader import IndexReader
from tests.support.reconciling import finish_work, ready

SOURCE = "context_items"
EQUAL = Reconciled(SOURCE, True, 1, 1, 0, 0, 0, 0, 0, 0, 0, None, {}, 0.1)


@pytest.fixture
def client(settings: Settings, worker: Worker) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


def reconciled(client: TestClient, db: Connection, role: Any = "operate", **more: Any) -> tuple[int, list[Any]]:
    key = api_keys.create(db, f"{role}-{uuid.uuid4().hex}", who="test", role=role).key
    answer = client.post("/admin/reconcile", json={"source": SOURCE, "wait_s": 0, **more}, headers={"X-API-Key": key})
    lines = answer.text.splitlines() if "ndjson" in answer.headers["content-type"] else [answer.text]
    return int(answer.status_code), [json.loads(line) for line in lines]


def test_differences_are_told_and_repaired_by_the_api(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    missing, other, *_ = ready(db, worker, 5)
    index.client.delete(SOURCE, [point_id(SOURCE, missing, 0)], wait=True)
    index.client.set_payload(SOURCE, {"title": "other"}, [point_id(SOURCE, other, 0)], wait=True)
    code, (*before, last) = reconciled(client, db)
    assert code == 200
    assert all({"stage", "done", "seconds"} == each.keys() for each in before)
    assert (last["result"]["equal"], last["result"]["rows"], last["result"]["missing"], last["result"]["stale"]) == (
        False, 5, 1, 1,
    )  # fmt: skip
    assert last["result"]["examples"] == {"missing": [missing], "stale": [other]}
    assert last["result"]["queued"] is None
    assert db.execute("SELECT count(*) FROM reindexer.due").fetchone() == (0,)

    _, (*_, repaired) = reconciled(client, db, repair=True)
    assert repaired["result"]["queued"] == 2
    (who,) = db.execute("SELECT who FROM reindexer.audit WHERE action = 'repair'").fetchone() or ("",)
    assert who.startswith("api testclient key operate-")
    finish_work(db, worker)
    _, (*_, again) = reconciled(client, db, role="admin")
    assert again["result"]["equal"]


def test_many_deletions_are_refused_with_what_was_found_and_an_operator_raises_no_limit(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    ready(db, worker, 3)
    db.execute("ALTER TABLE context_items DISABLE TRIGGER ALL; DELETE FROM context_items")
    db.execute("ALTER TABLE context_items ENABLE TRIGGER ALL")
    _, (*_, last) = reconciled(client, db, role="admin", repair=True, max_deletions=1)
    assert (last["result"]["orphaned"], last["result"]["queued"]) == (3, None)
    assert "nothing was repaired" in last["error"]
    code, refused = reconciled(client, db, repair=True, max_deletions=10)
    assert code == 403
    assert "without `max_deletions`" in refused[0]["detail"]


def test_what_can_not_be_compared_is_refused_before_the_first_line(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    assert reconciled(client, db, source="none")[0] == 404
    assert reconciled(client, db, generation=7)[0] == 409
    assert reconciled(client, db, wait_s=301)[0] == 422
    assert reconciled(client, db, role="search")[0] == 403


def test_one_comparison_runs_at_a_time_and_stops_when_nobody_listens_or_the_server_ends() -> None:
    comparisons, runs = Comparisons(), threading.Event()
    stopped = threading.Event()

    def endless(progress: Progress) -> tuple[Reconciled, str | None]:
        try:
            for done in range(2_000):
                runs.set()
                progress("rows", done)
                threading.Event().wait(0.005)
        finally:
            stopped.set()
        return EQUAL, None

    async def listen(*, leaves: bool) -> list[Any]:
        ending = asyncio.Event()
        lines = comparisons.begin(endless)
        assert lines is not None
        assert comparisons.begin(endless) is None
        told = lines.told(ending)
        first = json.loads(await anext(told))
        assert (first["stage"], first["done"] > 0) == ("rows", True)
        if leaves:
            await told.aclose()  # type: ignore[attr-defined]
            return []
        ending.set()
        return [json.loads(each) async for each in told]

    for leaves in (True, False):
        stopped.clear()
        last = asyncio.run(listen(leaves=leaves))
        assert stopped.wait(4)
        assert leaves or "the server ends" in last[-1]["error"]
        eventually(lambda: comparisons.begin(lambda _: (EQUAL, None)) is not None, within=5)
        eventually(comparisons.is_free, within=5)
    comparisons.close()


def test_an_error_in_the_middle_is_told_as_the_last_line_without_what_it_says_of_rows() -> None:
    async def last(compare: Any) -> Any:
        comparisons = Comparisons()
        lines = comparisons.begin(compare)
        assert lines is not None
        told = [json.loads(each) async for each in lines.told(asyncio.Event())]
        comparisons.close()
        return told[-1]

    def breaks(progress: Progress) -> tuple[Reconciled, str | None]:
        raise ValueError("a secret of a row")

    assert asyncio.run(last(breaks)) == {"error": "an unexpected error; the log says where"}
