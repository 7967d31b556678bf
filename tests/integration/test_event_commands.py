"""Events on the command line and over HTTP; and the piece of Python that a reader copies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import WebhookVerificationError

from api.main import create_app
from reindexer import audit
from reindexer.core.event import Event, headers, secret_of
from reindexer.monitoring.collect import measure_backlog
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from tests.support.commands import Done
from tests.support.docs import blocks
from tests.support.processes import ROOT
from tests.support.receiver import Receiver, Reply

Here = Callable[..., Done]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def test_a_receiver_from_its_first_day_to_its_last(
    here: Here, env: Mapping[str, str], db: Connection, receiver: Receiver
) -> None:
    def run(*arguments: str) -> Done:
        return here("events", *arguments, env=env)

    added = run("add", "hook", "--url", receiver.url, "--source", "context_items", "--type", "item.deleted")
    assert (added.returncode, added.stderr) == (0, "keep it now: it is not shown again\n")
    receiver.secret = added.stdout.strip()
    assert run("add", "app", "--notify", "--source", "context_items", "--json").returncode == 0
    told = {each["name"]: each for each in json.loads(run("list", "--json").stdout)["receivers"]}
    assert (told["hook"]["types"], told["hook"]["waiting"], told["app"]["kind"]) == (["item.deleted"], 0, "notify")
    assert told["hook"]["url"] == f"http://127.0.0.1:{receiver.port}"
    assert receiver.secret not in run("list", "--json").stdout + run("list").stdout
    assert run("test", "hook").returncode == 0
    assert run("test", "app").returncode == 0
    assert receiver.types() == ["test"]
    assert not receiver.refused
    receiver.plan = lambda _: Reply(500)
    failed = run("test", "hook")
    assert (failed.returncode, "answers 500" in failed.stderr) == (1, True)
    assert json.loads(run("rotate", "hook", "--json").stdout)["secret"] != receiver.secret
    assert run("remove", "hook").returncode == 0
    assert run("remove", "hook").returncode == 2
    assert [each.action for each in audit.recent(db, source=None, limit=4)] == [
        "events_remove", "events_rotate", "events_add", "events_add",
    ]  # fmt: skip
    assert receiver.secret not in str(audit.recent(db, source=None, limit=10))


@pytest.mark.parametrize(
    "arguments",
    ["add", "add hook --source context_items", "add hook --notify --url http://a/ --source context_items", "list hook",
     "remove hook --url http://a/", "rotate app --type item.failed", "list --keep 1h", "rotate app"],
)  # fmt: skip
def test_a_wrong_use_is_told_in_one_line(here: Here, env: Mapping[str, str], arguments: str) -> None:
    here("events", "add", "app", "--notify", "--source", "context_items", env=env)
    done = here("events", *arguments.split(), env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_what_is_told_of_receivers_over_http_by_status_and_by_metrics(
    here: Here, env: Mapping[str, str], settings: Settings, db: Connection, receiver: Receiver
) -> None:
    here("events", "add", "hook", "--url", receiver.url, "--source", "context_items", env=env)
    db.execute("UPDATE reindexer.event_receiver SET problem = 'it answers 500', failures = 3")
    db.execute("INSERT INTO reindexer.event (receiver, source, subject, id, type, version, at)"
               " VALUES ('hook', 'context_items', 'item', 'a', 'item.failed', 1, now() - interval '90 s')")  # fmt: skip
    with TestClient(create_app(settings)) as client:
        (told,) = client.get("/admin/events", headers={"X-API-Key": "test-admin-key"}).json()["receivers"]
    assert (told["waiting"], told["failures"], told["url"]) == (1, 3, f"http://127.0.0.1:{receiver.port}")
    assert status(db).events == ["hook: it answers 500; 1 event waiting"]
    measured = {each.name: each.value for each in measure_backlog(db) if each.labels == {"receiver": "hook"}}
    assert measured["reindexer_events_waiting"] == 1
    assert measured["reindexer_events_oldest_seconds"] == pytest.approx(90, abs=30)
    assert measured["reindexer_event_receiver_problem"] == 1


def test_the_documents_way_to_verify_takes_what_is_signed_and_nothing_else() -> None:
    (block,) = [each for each in blocks(ROOT / "docs" / "events.md") if each.language == "python"]
    event = Event(7, "item.deleted", datetime.now(UTC), {"source": "notes", "item_id": "ü", "version": 1})
    secret, other = secret_of(b"a" * 32), secret_of(b"b" * 32)
    known: dict[str, Any] = {
        "secret": secret,
        "body": event.body,
        "headers": headers(event, event.body, [other, secret], int(time.time())),
    }
    exec(block.text, known)
    assert known["event"]["data"] == event.data
    for wrong in ({"body": event.body.replace(b"notes", b"other")}, {"secret": secret_of(b"c" * 32)}):
        with pytest.raises(WebhookVerificationError):
            exec(block.text, known | wrong)
