"""Backfills: in this process on real servers, over HTTP, and with listener, worker and command as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.backfills.runs import Run
from reindexer.core.errors import SourceError
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes

KEY = {"Authorization": "Bearer test-admin-key"}
PATH = "/admin/backfills"


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 10)


def start(db: Connection, **options: Any) -> Run:
    return runs.start(db, find_source(db, "context_items"), who="test", **options)


def walk(db: Connection, *, pages: int = 1_000) -> None:
    """Queue pages until there are no more, as the leading listener does."""
    while pages and walk_page(db, lambda name, _: find_source(db, name)):
        pages -= 1


def due(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.due").fetchone()
    assert row is not None
    return int(row[0])


def indexed(db: Connection, worker: Worker, count: int) -> list[str]:
    """So many items that are indexed already."""
    ids = [insert(db, f"text {n}", f"title {n}") for n in range(count)]
    work(db, worker)
    return ids


def test_a_backfill_is_finished_when_its_last_item_is_settled_and_no_unchanged_text_is_embedded(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    indexed(db, worker, 25)
    calls = len(provider.calls)
    run = start(db)
    assert (run.state, run.total, run.total_is_estimate, run.done) == ("running", 25, False, 0)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.queued, run.done, run.eta_s) == ("running", 25, 0, None)
    worker.limits = WorkLimits(batch_size=10)
    worker.run_lane("bulk", budget_s=0)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.done) == ("running", 10)
    assert run.rate is not None
    assert run.eta_s is not None
    worker.run_lane("bulk", budget_s=5)
    assert state_of_everything(db).pending == 1
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.total, run.done, run.failed, run.eta_s) == ("finished", 25, 25, 0, None)
    assert run.finished_at is not None
    assert state_of_everything(db).pending == 0
    assert len(provider.calls) == calls


def test_force_embeds_every_item_anew_once(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    indexed(db, worker, 25)
    before = len(provider.inputs)
    start(db, force=True)
    walk(db)
    work(db, worker)
    assert sorted(provider.inputs[before:]) == sorted(provider.inputs[:before])


def test_an_edit_before_and_after_its_page_is_embedded_and_counted_once(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    ids = indexed(db, worker, 5)
    before = len(provider.inputs)
    db.execute("UPDATE context_items SET content = 'edited' WHERE id = %s", [ids[0]])
    drain(db)
    run = start(db, force=True)
    walk(db)
    db.execute("UPDATE context_items SET content = 'edited too' WHERE id = %s", [ids[1]])
    work(db, worker)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.done) == ("finished", 5)
    assert len(provider.inputs) - before == 5
    assert index.holds(ids[0], vector_of("title 0\nedited"))
    assert index.holds(ids[1], vector_of("title 1\nedited too"))


def test_items_that_fail_are_told_and_do_not_hold_the_run_up(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    indexed(db, worker, 12)
    provider.behave = lambda call: error(400, "no") if any("text 7" in text for text in call.inputs) else None
    run = start(db, force=True)
    walk(db)
    work(db, worker)
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.done, run.failed) == ("finished", 12, 1)


@pytest.mark.parametrize(
    ("where", "picked"),
    [
        ("title LIKE 'title 1%'", 11),
        ("t.content = 'text 3' -- only this", 1),
        ("false", 0),
        ("NULL", 0),
        ("title = 'a)' OR content IN ('text 1', 'text 2', '%s')", 2),
        ("(SELECT count(*) FROM context_items) = 20", 20),
    ],
)
def test_a_condition_picks_its_rows_on_every_page(db: Connection, worker: Worker, where: str, picked: int) -> None:
    for n in range(20):
        insert(db, f"text {n}", f"title {n}")
    db.execute("DELETE FROM reindexer.outbox")
    run = start(db, where=where)
    walk(db)
    assert (run.total, due(db)) == (picked, picked)
    work(db, worker)
    walk(db)
    assert runs.get(db, run.id).state == "finished"


@pytest.mark.parametrize(
    "where",
    [
        "",
        "true; DROP TABLE context_items",
        "true) OR (true",
        "true) UNION ALL (SELECT true",
        "true] = ARRAY[true",
        "true /*",
        "title = 'open",
        "title = $$open",
        "(true",
        "SELECT true",
        "true, false",
        "nothing = 1",
        "content",
        "count(*) > 1",
        "generate_series(1, 3) > 1",
        "row_number() OVER () > 1",
        "$1 = 1",
        "1 / 0 = 1",
        "title::int = 1",
        "nextval('reindexer.run_id_seq') > 0",
    ],
)
def test_what_is_no_condition_is_422_in_one_line_and_starts_nothing(
    client: TestClient, db: Connection, where: str
) -> None:
    insert(db, "text", "secret title")
    answer = client.post(PATH, json={"source": "context_items", "where": where})
    assert answer.status_code == 422, answer.text
    assert "condition" in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert "secret" not in answer.text
    assert db.execute("SELECT count(*) FROM reindexer.run WHERE kind = 'backfill'").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM context_items").fetchone() == (1,)


def test_a_condition_that_fails_on_a_later_row_ends_its_run_alone_and_quotes_no_row(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    insert(db, "text", "1")
    run = start(db, where="title::int = 1")
    secret = insert(db, "text", "secret")
    db.execute("INSERT INTO reindexer.outbox (source) VALUES ('context_items')")
    drain(db)
    walk(db)
    run = runs.get(db, run.id)
    assert run.state == "failed"
    assert "InvalidTextRepresentation" in str(run.error)
    assert "secret" not in str(run.error)
    work(db, worker)
    walk(db)
    assert [each.state for each in runs.recent(db) if each.kind == "whole_source"] == ["finished"]
    assert index.holds(secret, vector_of("secret\ntext"))


def test_a_condition_that_is_too_slow_ends_its_run_and_keeps_the_connection(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE_S", 0.1)
    for n in range(30):
        insert(db, f"text {n}")
    run = start(db, where="pg_sleep(0.05) IS NOT NULL")
    assert run.total_is_estimate
    walk(db)
    run = runs.get(db, run.id)
    assert (run.state, run.error) == ("failed", "the condition takes too long")
    assert db.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_a_condition_that_exhausts_the_server_ends_its_run_and_not_the_listener(db: Connection) -> None:
    db.execute("CREATE FUNCTION deep(n int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN deep(n + 1); END'")
    run = start(db, where="deep(0)")
    insert(db, "text")
    walk(db)
    run = runs.get(db, run.id)
    assert run.state == "failed"
    assert "stack depth" in str(run.error)


def test_a_condition_leaves_no_setting_on_the_listeners_connection(db: Connection) -> None:
    insert(db, "text")
    start(db, where="set_config('search_path', 'nowhere', false) = 'nowhere'")
    walk(db)
    row = db.execute("SHOW search_path").fetchone()
    assert row is not None
    assert row[0] != "nowhere"


def test_a_source_that_can_not_be_read_makes_its_run_wait_and_say_why(db: Connection) -> None:
    insert(db, "text")
    run = start(db)
    db.execute("ALTER TABLE context_items RENAME COLUMN content TO body")
    with pytest.raises(SourceError):
        walk(db)
    run = runs.get(db, run.id)
    assert run.state == "running"
    assert "'content'" in str(run.error)
    walk(db)
    db.execute("ALTER TABLE context_items RENAME COLUMN body TO content")
    db.execute("UPDATE reindexer.run SET not_before = now()")
    walk(db)
    run = runs.get(db, run.id)
    assert (run.queued, run.error) == (1, None)


def test_one_backfill_a_source_is_open_at_a_time(client: TestClient, db: Connection) -> None:
    first = client.post(PATH, json={"source": "context_items"})
    assert first.status_code == 202
    second = client.post(PATH, json={"source": "context_items", "where": "true"})
    assert second.status_code == 409
    assert client.post(PATH, json={"source": "nothing"}).status_code == 404
    assert client.get(f"{PATH}/{first.json()['id']}").json()["state"] == "running"
    listed = client.get(PATH, params={"source": "context_items"}).json()["backfills"]
    assert listed[0]["id"] == first.json()["id"]
    assert {"id", "source", "kind", "state", "total", "total_is_estimate", "queued", "done", "failed", "rate", "eta_s", "started_at", "finished_at", "error"} <= set(listed[0])  # fmt: skip
    walk(db)
    assert client.post(PATH, json={"source": "context_items"}).status_code == 202
    assert client.get(f"{PATH}/{2**62}").status_code == 404
    assert client.post(PATH, json={"source": "context_items"}, headers={"Authorization": ""}).status_code == 401


def test_paused_nothing_is_queued_and_resumed_it_goes_on_where_it_was(
    client: TestClient, db: Connection, worker: Worker
) -> None:
    indexed(db, worker, 25)
    url = f"{PATH}/{client.post(PATH, json={'source': 'context_items'}).json()['id']}"
    walk(db, pages=1)
    assert client.post(f"{url}/pause").json()["state"] == "paused"
    walk(db)
    assert due(db) == 10
    assert state_of_everything(db).pending == 10
    assert state_of_everything(db).open_runs == 1
    work(db, worker)
    paused = client.get(url).json()
    assert (paused["state"], paused["done"], paused["eta_s"]) == ("paused", 10, None)
    assert client.post(f"{url}/resume").json()["state"] == "running"
    walk(db)
    assert due(db) == 15
    work(db, worker)
    walk(db)
    assert client.get(url).json()["state"] == "finished"
    assert [client.post(f"{url}/{act}").status_code for act in ("pause", "resume", "cancel")] == [409] * 3


def test_a_pause_while_a_page_is_read_holds_that_page_back(db: Connection) -> None:
    insert(db, "text")
    run = start(db)

    def pause_meanwhile(name: str, _: int) -> Any:
        runs.pause(db, run.id, who="test")
        return find_source(db, name)

    walk_page(db, pause_meanwhile)
    assert due(db) == 0
    runs.resume(db, run.id, who="test")
    walk(db)
    assert due(db) == 1


def test_cancelled_what_nobody_has_taken_or_asked_for_is_taken_back_and_edits_stay(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    ids = indexed(db, worker, 25)
    url = f"{PATH}/{client.post(PATH, json={'source': 'context_items', 'force': True}).json()['id']}"
    db.execute("UPDATE context_items SET content = 'before' WHERE id = %s", [ids[0]])
    drain(db)
    walk(db)
    db.execute("UPDATE context_items SET content = 'after' WHERE id = %s", [ids[1]])
    drain(db)
    cancelled = client.post(f"{url}/cancel").json()
    assert (cancelled["state"], cancelled["queued"], cancelled["done"]) == ("cancelled", 2, 0)
    assert due(db) == 2
    work(db, worker)
    walk(db)
    assert index.holds(ids[0], vector_of("title 0\nbefore"))
    assert index.holds(ids[1], vector_of("title 1\nafter"))
    assert client.get(url).json()["done"] == 2
    assert state_of_everything(db).pending == 0


def test_a_run_that_keeps_the_index_right_can_not_be_cancelled(client: TestClient, db: Connection) -> None:
    db.execute("TRUNCATE context_items")
    drain(db)
    run = runs.recent(db)[0]
    assert run.kind == "whole_source"
    assert client.post(f"{PATH}/{run.id}/cancel").status_code == 409


def test_a_truncate_during_a_backfill_with_a_condition_empties_the_index(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    indexed(db, worker, 25)
    run = start(db, where="title = 'title 3'")
    walk(db, pages=1)
    db.execute("TRUNCATE context_items")
    kept = insert(db, "kept", "title 3")
    assert drain(db).walks == 1
    walk(db)
    work(db, worker)
    walk(db)
    assert index.count() == 1
    assert index.holds(kept, vector_of("title 3\nkept"))
    assert runs.get(db, run.id).state == "finished"
    assert {each.state for each in runs.recent(db)} == {"finished"}


def command(processes: Processes, *arguments: str, forked: bool = True) -> subprocess.Popen[str]:
    python = forked_python() if forked else [sys.executable, "-m"]
    return subprocess.Popen(
        [*python, "reindexer", "backfill", *arguments],
        env=processes.env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_ctrl_c_leaves_the_backfill_running_and_says_how_to_watch_and_end_it(
    db: Connection, processes: Processes
) -> None:
    insert(db, "text")
    running = command(processes, "context_items", forked=False)
    assert running.stderr is not None
    assert "no listener runs" in running.stderr.readline()
    assert "context_items: 0 of 1" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    code, _, err = ended(running)
    assert code == 130
    assert "--watch" in err
    assert "--cancel" in err
    assert "Traceback" not in err
    assert runs.recent(db, "context_items")[0].state == "running"
    code, _, err = ended(command(processes, "context_items"))
    assert (code, err.count("\n")) == (1, 1)
    assert "--watch" in err
    code, out, _ = ended(command(processes, "context_items", "--cancel", "--json"))
    assert (code, json.loads(out)["state"]) == (0, "cancelled")
    assert ended(command(processes, "context_items", "--cancel"))[0] == 1
    assert ended(command(processes, "nothing"))[0] == 1
    for wrong in (["--where", "true) OR (true"], ["--cancel", "--force"]):
        code, _, err = ended(command(processes, "context_items", *wrong))
        assert (code, err.count("\n")) == (2, 1), err
    code, out, _ = ended(command(processes, "context_items", "--detach", "--json"))
    assert (code, json.loads(out)["state"]) == (0, "running")


def test_on_a_terminal_a_bar_with_rate_and_time_left_is_drawn(db: Connection, processes: Processes) -> None:
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 300) n")
    processes.listener()
    processes.worker(REINDEXER_BATCH_SIZE="50")
    eventually(lambda: state_of_everything(db).pending == 0, within=30)
    terminal, its_end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "reindexer", "backfill", "context_items", "--force"],
        env=processes.env | {"TERM": "xterm", "COLUMNS": "120"}, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=its_end,
    )  # fmt: skip
    os.close(its_end)
    shown = b""
    with suppress(OSError):  # the terminal ends with its last user
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    code, out, _ = ended(process)
    assert code == 0
    assert b"\x1b[" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).strip().splitlines()[-1]
    assert re.search(r"context_items .* 300/300 \d+/s", last)
    assert re.fullmatch(r"backfill \d+ of context_items finished: 300 done, 0 failed\n", out)


@pytest.mark.timeout(300)
def test_a_listener_killed_half_way_is_followed_by_one_that_misses_nothing_and_queues_nothing_twice(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    rows = 6_000
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, %s) n", [rows])
    db.execute("TRUNCATE reindexer.outbox")
    # A backlog of others' work that leaves room for two pages: nobody gets to the end before it is gone.
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane, not_before)"
        " SELECT 'context_items', gen_random_uuid(), 1, 'bulk', 'infinity' FROM generate_series(1, 16000)"
    )
    first = processes.listener()
    _, url = processes.api()
    with httpx.Client(base_url=url, headers=KEY, timeout=10) as http:
        run_url = f"{PATH}/{http.post(PATH, json={'source': 'context_items', 'force': True}).json()['id']}"
        eventually(lambda: http.get(run_url).json()["queued"] == 4_000, within=30)
        processes.children.kill(first)
        assert http.get(run_url).json()["queued"] == 4_000
        db.execute("DELETE FROM reindexer.due WHERE not_before = 'infinity'")
        processes.listener()
        following = command(processes, "context_items", "--watch", "--json")
        assert following.stderr is not None
        assert f"of {rows}" in following.stderr.readline()
        processes.worker()
        code, out, err = ended(following)
        assert code == 0, err
        assert json.loads(out)["state"] == "finished"
        run = http.get(run_url).json()
    assert (run["state"], run["done"], run["failed"]) == ("finished", rows, 0)
    assert len(provider.inputs) == len(set(provider.inputs)) == rows
    assert index.count() == rows
