"""Dead letters: FAILED items are told with their reason and tried again; and who did so is written down."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer.postgres.connect import Connection
from reindexer.queue import dead_letters
from reindexer.queue.dead_letters import Which
from reindexer.settings import Settings
from reindexer.testing.provider import Call, FakeProvider, Reply, error, vector_of
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, status
from tests.support.index_reader import IndexReader
from tests.support.reconciling import finish_work

KEY = {"X-API-Key": "test-admin-key"}
LETTERS = "/admin/dead-letters"


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as client:
        yield client


def refuses(call: Call) -> Reply | None:
    """A provider that refuses one text for good, and can't answer another just now."""
    if any("refused" in text for text in call.inputs):
        return error(400, "invalid_input")
    if any("unlucky" in text for text in call.inputs):
        return error(500, "overloaded")
    return None


@pytest.fixture
def failed(db: Connection, worker: Worker, provider: FakeProvider) -> list[str]:
    """Ids of an item that failed for good and of one that heals, beside one that is well."""
    provider.behave = refuses
    ids = [insert(db, "refused text")]
    finish_work(db, worker)
    ids.append(insert(db, "unlucky text"))
    finish_work(db, worker)
    insert(db, "fine")
    finish_work(db, worker)
    return ids


def fail_many(db: Connection, count: int) -> None:
    db.execute(
        """
        INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token, error)
        SELECT 'context_items', gen_random_uuid()::text, 1, 'FAILED', 1, 'reason ' || n %% 2 FROM generate_series(1, %s) AS n
        """,
        [count],
    )


def test_dead_letters_are_told_with_their_reason_and_when_they_heal(client: TestClient, failed: list[str]) -> None:
    answer = client.get(LETTERS).json()
    letters = {each["item_id"]: each for each in answer["dead_letters"]}
    assert answer["next_cursor"] is None
    assert letters.keys() == set(failed)
    lasting, passing = (letters[item_id] for item_id in failed)
    assert "400" in lasting["error"]
    assert (lasting["attempts"], lasting["heals_at"]) == (1, None)
    assert "500" in passing["error"]
    assert passing["attempts"] == 4
    assert passing["heals_at"] > passing["failed_at"]


def test_a_replay_tries_again_with_all_tries_and_succeeds_once_the_cause_is_mended(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, failed: list[str]
) -> None:
    provider.calls.clear()
    assert client.post(f"{LETTERS}/replay", json={"error": "OVERLOADED"}).json() == {"replayed": 1, "left": 0}
    assert status(db, failed[0]) is not None
    assert status(db, failed[0])[0] == "FAILED"  # type: ignore[index]
    finish_work(db, worker)
    assert len(provider.calls) == 4
    assert status(db, failed[1])[0] == "FAILED"  # type: ignore[index]
    provider.behave = lambda call: None
    assert client.post(f"{LETTERS}/replay", json={}).json() == {"replayed": 2, "left": 0}
    assert client.get(LETTERS).json()["dead_letters"] == [], "what is due again is no dead letter"
    finish_work(db, worker)
    assert index.holds(failed[0], vector_of("refused text"))
    assert index.holds(failed[1], vector_of("unlucky text"))
    assert client.get(LETTERS).json()["dead_letters"] == []


def test_dead_letters_are_told_by_pages_each_once(client: TestClient, db: Connection) -> None:
    fail_many(db, 25)
    told, cursor, pages = list[str](), None, 0
    while pages == 0 or cursor:
        page = client.get(LETTERS, params={"limit": 10, **({"cursor": cursor} if cursor else {})}).json()
        told += [each["item_id"] for each in page["dead_letters"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert pages == 3
    assert len(told) == len(set(told)) == 25
    assert client.get(LETTERS, params={"cursor": "mine"}).status_code == 422


def test_dead_letters_are_chosen_by_source_item_and_reason(client: TestClient, db: Connection) -> None:
    fail_many(db, 4)

    def told(**chosen: str) -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = client.get(LETTERS, params=chosen).json()["dead_letters"]
        return letters

    one = told()[0]
    assert [each["item_id"] for each in told(source="context_items", item_id=one["item_id"].upper())] == [
        one["item_id"]
    ]
    assert len(told(error="REASON 1")) == 2
    assert told(error="%") == []
    assert told(item_id=str(uuid.uuid4())) == []
    assert client.get(LETTERS, params={"source": "nothing"}).status_code == 404
    assert client.post(f"{LETTERS}/replay", json={"source": "nothing"}).status_code == 404


def test_many_dead_letters_are_replayed_page_by_page(db: Connection) -> None:
    fail_many(db, 3 * dead_letters.PAGE + 1)
    told = list[int]()
    replayed = dead_letters.replay(db, Which(), who="test", progress=told.append)
    assert told == [1000, 2000, 3000, 3001]
    assert replayed == 3001
    assert db.execute("SELECT count(*), sum(attempts), bool_and(doubtful) FROM reindexer.due").fetchone() == (
        3001, 0, True,
    )  # fmt: skip
    assert dead_letters.count(db, Which()) == 0
    assert dead_letters.replay(db, Which(), who="test") == 0


def test_a_replay_of_some_leaves_the_others(client: TestClient, db: Connection) -> None:
    fail_many(db, 10)
    assert client.post(f"{LETTERS}/replay", json={"limit": 4}).json() == {"replayed": 4, "left": 6}


def test_the_command_lists_and_replays(
    db: Connection, env: Mapping[str, str], here: Callable[..., Done], failed: list[str], worker: Worker
) -> None:
    told = here("dead-letters", env=env)
    assert told.stderr == "2 of 2\n"
    assert all(item_id in told.stdout for item_id in failed)
    listed = json.loads(here("dead-letters", "list", "--error", "400", "--json", env=env).stdout)
    assert ([each["item_id"] for each in listed["dead_letters"]], listed["total"]) == ([failed[0]], 1)
    done = here("dead-letters", "replay", "--source", "context_items", "--item", failed[0], "--json", env=env)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"replayed": 1})
    assert status(db, failed[0])[0] == "PENDING"  # type: ignore[index]
    unknown = here("dead-letters", "--source", "nothing", env=env)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)


def test_every_admin_action_leaves_one_row_that_says_who_what_and_when(
    client: TestClient, db: Connection, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    db.execute("DELETE FROM reindexer.audit")
    item_id, secret = insert(db, "text"), "the secret text of a row"
    posts: list[tuple[str, dict[str, Any]]] = [
        ("bulk/regenerate-embeddings", {"context_ids": [item_id]}),
        ("dead-letters/replay", {"error": secret}),
        ("pause", {"source": "context_items"}),
        ("resume", {}),
        ("backfills", {"source": "context_items", "where": f"content = '{secret}'"}),
    ]
    answers = [client.post(f"/admin/{path}", json=body, headers={"X-Actor": "Ann \n"}) for path, body in posts]
    assert all(answer.is_success for answer in answers)
    run = answers[-1].json()["id"]
    for act in ("pause", "resume", "cancel"):
        assert client.post(f"/admin/backfills/{run}/{act}").is_success
    assert here("pause", "context_items", env=env).returncode == 0
    assert here("reconcile", "context_items", "--repair", "--wait", "0", env=env).returncode == 0
    told = json.loads(here("audit", "--json", env=env).stdout)["audit"]
    actions = [
        "bulk", "replay", "pause", "resume", "backfill_start", "backfill_pause", "backfill_resume", "backfill_cancel",
        "pause", "repair",
    ]  # fmt: skip
    assert [each["action"] for each in reversed(told)] == actions
    assert [each["who"] for each in reversed(told)][:5] == ["api testclient (Ann)"] * 5
    assert [each["who"] for each in reversed(told)][5:8] == ["api testclient"] * 3
    assert all(each["who"].startswith("cli ") and "@" in each["who"] for each in told[:2])
    assert told[-1]["details"] == {"items": 1}
    assert told[-5]["details"] == {"run": run, "force": False, "where": True}
    assert [each["source"] for each in told if each["action"] == "resume"] == [None]
    assert secret not in json.dumps(told)
    assert "pause" in here("audit", "--source", "context_items", "--limit", "3", env=env).stdout


def test_what_was_refused_leaves_no_row_and_no_row_holds_the_key(client: TestClient, db: Connection) -> None:
    assert client.post("/admin/backfills", json={"source": "context_items"}).status_code == 202
    db.execute("DELETE FROM reindexer.audit")
    assert client.post("/admin/backfills", json={"source": "context_items"}).status_code == 409
    client.post("/admin/pause", json={"source": "nothing"})
    client.post("/admin/backfills", json={"source": "context_items", "where": "no such column"})
    client.post("/admin/backfills/999/cancel")
    client.post("/admin/pause", json={}, headers={"X-API-Key": "wrong"})
    assert db.execute("SELECT count(*) FROM reindexer.audit").fetchone() == (0,)
    client.post("/admin/resume", json={}, headers={"X-Actor": "Bearer test-admin-key"})
    client.post("/admin/resume", json={}, headers={"X-Actor": "x" * 100})
    assert client.post("/admin/resume", json={}, headers={"X-Actor": "x" * 101}).status_code == 422
    rows = [str(row[0]) for row in db.execute("SELECT who FROM reindexer.audit ORDER BY id")]
    assert rows == ["api testclient", f"api testclient ({'x' * 100})"]
