"""Forgetting an item: nothing of ours holds it afterwards, and nothing brings it back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from alembic import command
from fastapi.testclient import TestClient

import reindexer
from api.main import create_app
from reindexer import Client, Settings, audit
from reindexer.audit import item_mark
from reindexer.core.text.chunks import Span
from reindexer.index.forget import Forgotten, RowIsThere, forget
from reindexer.migrate import alembic_config, migrate
from reindexer.ports import Collection, Point
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.locks import promoting
from reindexer.queue import dead_letters, marks, requests
from reindexer.queue.claim import Claim
from reindexer.queue.drain import drain
from reindexer.queue.maintenance import forget as forget_old
from reindexer.queue.maintenance import recheck
from reindexer.testing.provider import FakeProvider, error, refuse_texts, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.worker import one_request
from reindexer.worker.worker import Worker
from tests.support.claims import claim, lose_leases
from tests.support.commands import Done
from tests.support.flow import idle, insert, status, work
from tests.support.generations import promote_second, settle
from tests.support.index_reader import IndexReader

KEY = {"X-API-Key": "test-admin-key"}
SOURCE = "context_items"
FIRST = Collection(SOURCE, "context_items__g1", SOURCE)

Forget = Callable[[str], Forgotten]


@pytest.fixture
def forget_it(db: Connection, settings: Settings, worker: Worker) -> Forget:
    def run(item_id: str) -> Forgotten:
        return forget(
            db, worker.index, SOURCE, item_id, who="test", policy=settings.retry_policy, lease_s=settings.lease_s
        )

    return run


def mentions(db: Connection, item_id: str) -> list[str]:
    """Tables of ours that hold the id anywhere in a row."""
    tables = db.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'reindexer'::regnamespace AND relkind IN ('r', 'v', 'p')"
    ).fetchall()
    return [
        name for (name,) in tables
        if db.execute(f'SELECT FROM reindexer."{name}" AS t WHERE strpos(t::text, %s) > 0'.encode(), [item_id]).fetchall()
    ]  # fmt: skip


def points(index: IndexReader, item_id: str) -> int:
    """In all collections, of any name."""
    found = 0
    for each in index.client.get_collections().collections:
        records, _ = index.client.scroll(each.name, limit=1000, with_payload=True)
        found += sum((record.payload or {}).get("_reindexer", {}).get("item_id") == item_id for record in records)
    return found


def delete_row(db: Connection, item_id: str) -> None:
    db.execute("DELETE FROM context_items WHERE id = %s", [item_id])


def test_an_item_that_is_indexed_in_two_generations_leaves_both_and_every_record(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    promote_second(db, settings, worker)
    item = insert(db, "a text to forget", "gone")
    other = insert(db, "a text to keep", "kept")
    (task, _) = requests.submit(db, SOURCE, [item, other], who="test")
    settle(db, worker)
    assert points(index, item) == 2
    delete_row(db, item)  # and no listener has seen it
    done = forget_it(item)
    assert (done.points, done.verified_for_s) == (2, None)
    assert points(index, item) == 0
    assert mentions(db, item) == []
    state = requests.task_state(db, task)
    assert state is not None
    assert (state.item_id, state.state) == ("", "SUCCESS")
    settle(db, worker)
    assert (points(index, item), mentions(db, item)) == (0, [])
    assert points(index, other) == 2
    assert forget_it(item) == Forgotten(SOURCE, 0, 0, None)


def test_a_mark_that_waits_for_it_or_that_it_failed_holds_it_no_longer(
    db: Connection, worker: Worker, provider: FakeProvider, forget_it: Forget
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if "bad" in str(call.inputs) else None
    with db.transaction():
        (token,) = db.execute("SELECT reindexer.mark()").fetchone() or ("",)
        failed, waiting = insert(db, "bad"), insert(db, "good")
    work(db, worker)
    assert marks.states(db, [token]) == {token: "failed"}
    db.execute("UPDATE context_items SET content = 'better' WHERE id = %s", [waiting])
    with db.transaction():
        (later,) = db.execute("SELECT reindexer.mark()").fetchone() or ("",)
        db.execute("DELETE FROM context_items WHERE id = ANY (%s::uuid[])", [[failed, waiting]])
    drain(db)
    assert "drained" in mentions(db, failed)
    assert "drained" in mentions(db, waiting)
    assert marks.states(db, [token, later]) == {token: "waiting", later: "waiting"}, "what failed has changed since"
    for item in (failed, waiting):
        forget_it(item)
        assert mentions(db, item) == []
    assert marks.states(db, [token, later]) == {token: "indexed", later: "indexed"}


def test_the_audit_says_so_and_names_no_item(
    db: Connection, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    item = insert(db, "text")
    work(db, worker)
    delete_row(db, item)
    which = dead_letters.which(db, SOURCE, item, None)
    dead_letters.replay(db, which, who="test")
    forget_it(item)
    rows = db.execute(
        "SELECT who, action, source, details FROM reindexer.audit WHERE action <> 'migrate' ORDER BY id"
    ).fetchall()
    assert [(row[0], row[1], row[2]) for row in rows] == [("test", "replay", SOURCE), ("test", "forget", SOURCE)]
    assert rows[0][3]["item"] == rows[1][3]["item"] == item_mark(SOURCE, item)
    assert rows[1][3] == {"item": item_mark(SOURCE, item), "points": 1}
    assert item not in str(rows)


def test_a_row_that_is_there_is_refused_and_nothing_is_touched(
    db: Connection, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    item = insert(db, "text")
    work(db, worker)
    with pytest.raises(RowIsThere, match="delete that row first, or exclude it by the source's condition"):
        forget_it(item)
    assert points(index, item) == 1
    assert db.execute("SELECT count(*) FROM reindexer.due").fetchone() == (0,)
    assert status(db, item) == ("COMPLETED", None)
    assert db.execute("SELECT FROM reindexer.audit WHERE action <> 'migrate'").fetchall() == []


def test_a_row_that_is_no_item_by_its_condition_is_forgotten(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    item = insert(db, "text", "secret")
    work(db, worker)
    with Client(settings) as client:
        client.attach(SOURCE, where="title <> 'secret'", rows_may_move=True)
    assert forget_it(item).points == 1
    settle(db, worker)
    assert (points(index, item), mentions(db, item)) == (0, [])


def test_a_failed_item_goes_with_its_reason(
    db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader, forget_it: Forget
) -> None:
    provider.behave = refuse_texts
    item = insert(db, "poison")
    work(db, worker)
    assert (status(db, item) or ("",))[0] == "FAILED"
    delete_row(db, item)
    forget_it(item)
    assert mentions(db, item) == []
    assert dead_letters.page(db, dead_letters.Which(), 10) == []


def test_what_is_still_in_the_outbox_or_due_goes_too(
    db: Connection, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    item = insert(db, "text")
    drain(db)
    delete_row(db, item)
    assert mentions(db, item) == ["outbox", "due", "item_status"] or set(mentions(db, item)) == {
        "outbox",
        "due",
        "item_status",
    }
    forget_it(item)
    assert mentions(db, item) == []
    assert idle(db)


@pytest.mark.long
def test_a_row_that_comes_meanwhile_is_not_lost(
    db: Connection, database: str, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    """It comes after the points are gone and before the records go: it is refused, and the row is indexed."""
    item = insert(db, "text")
    work(db, worker)
    delete_row(db, item)

    class Slow:
        """The index, which a writer is quicker than."""

        def __getattr__(self, name: str) -> Any:
            return getattr(worker.index, name)

        def delete_items(self, *arguments: Any) -> None:
            worker.index.delete_items(*arguments)
            db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'text')", [item])
            drain(db)

    with connect(database, application_name="test") as other, pytest.raises(RowIsThere):
        forget(other, Slow(), SOURCE, item, who="test", policy=settings.retry_policy, lease_s=60)
    work(db, worker)
    assert points(index, item) == 1
    assert status(db, item) == ("COMPLETED", None)


@pytest.mark.parametrize("drained", [False, True], ids=["in the outbox", "due"])
def test_a_row_that_comes_while_the_records_go_stays_due(
    db: Connection, database: str, settings: Settings, worker: Worker, index: IndexReader, drained: bool
) -> None:
    """A change that is recorded between the look at the row and the deletion of the records."""
    item = insert(db, "text")
    work(db, worker)
    delete_row(db, item)
    results: list[object] = []

    def run() -> None:
        with connect(database, application_name="test") as other:
            try:
                results.append(
                    forget(other, worker.index, SOURCE, item, who="test", policy=settings.retry_policy, lease_s=60)
                )
            except RowIsThere as refused:
                results.append(refused)

    thread = threading.Thread(target=run)
    with connect(database, application_name="test") as blocker, blocker.transaction():
        promoting(blocker, SOURCE)
        thread.start()
        eventually(
            lambda: db.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'advisory'").fetchall(), within=5
        )
        db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'text again')", [item])
        if drained:
            drain(db)
    thread.join(timeout=10)
    assert [isinstance(each, RowIsThere) for each in results] == [drained]
    work(db, worker)
    assert points(index, item) == 1
    assert status(db, item) == ("COMPLETED", None)


def test_a_worker_that_has_claimed_it_is_waited_for(
    db: Connection, database: str, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    insert(db, "another")
    work(db, worker)
    item = insert(db, "text")
    drain(db)
    taken = claim(db)
    delete_row(db, item)
    results: list[Forgotten] = []

    def run() -> None:
        with connect(database, application_name="test") as other:
            results.append(
                forget(other, worker.index, SOURCE, item, who="test", policy=settings.retry_policy, lease_s=60)
            )

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.5)
    assert results == []
    write(worker, taken, item)  # its write, in time
    assert points(index, item) == 1
    db.execute("UPDATE reindexer.due SET lease_until = NULL, not_before = clock_timestamp(), doubtful = false")
    thread.join(timeout=10)
    assert [done.points for done in results] == [1]
    assert (points(index, item), mentions(db, item)) == (0, [])


def write(worker: Worker, late: Claim, item_id: str) -> None:
    point = Point(item_id, 0, vector_of("late"), {}, "print of late", Span(0, 4))
    worker.index.upsert(FIRST, [point], late.token, 5)


def test_what_a_lost_claim_writes_later_is_found_and_goes_and_then_nothing_names_the_item(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    """Qdrant makes a point that is not there whatever the token: so the id stays until the last verification."""
    insert(db, "another")
    work(db, worker)
    item = insert(db, "text")
    drain(db)
    late = claim(db)
    lose_leases(db)
    delete_row(db, item)
    done = forget_it(item)
    assert done.verified_for_s == pytest.approx(86_400, abs=5)
    assert mentions(db, item) == ["ledger"]
    write(worker, late, item)
    assert points(index, item) == 1
    for seconds in (70, 3_700, 86_500):
        db.execute(
            "UPDATE reindexer.ledger SET doubted_at = doubted_at - make_interval(secs => %(s)s),"
            " recheck_at = recheck_at - make_interval(secs => %(s)s) WHERE item_id = %(item)s",
            {"s": seconds, "item": item},
        )
        assert recheck(db) == 1
        forget_old(db)
        assert "ledger" in mentions(db, item)
        work(db, worker)
        assert points(index, item) == 0
    forget_old(db)
    assert mentions(db, item) == []


def test_an_item_that_comes_back_while_it_is_verified_is_known_again(
    db: Connection, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    item = insert(db, "text")
    drain(db)
    claim(db)
    lose_leases(db)
    delete_row(db, item)
    forget_it(item)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'back')", [item])
    work(db, worker)
    delete_row(db, item)
    work(db, worker)
    assert db.execute("SELECT forgotten_at FROM reindexer.ledger WHERE item_id = %s", [item]).fetchall() == [(None,)]


def test_points_of_a_higher_token_go_as_well(
    db: Connection, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    """Of a database whose clock went ahead, or that was restored."""
    item = insert(db, "text")
    work(db, worker)
    delete_row(db, item)
    ahead = int((time.time() + 3600) * 1_000_000)
    worker.index.upsert(FIRST, [Point(item, 0, vector_of("x"), {}, "print", Span(0, 1))], ahead, 5)
    assert forget_it(item).points == 1
    assert (points(index, item), mentions(db, item)) == (0, [])


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.STALL], ids=lambda mode: mode.value)
def test_while_qdrant_is_away_it_is_not_forgotten_and_it_can_be_done_again(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.index.forget.REQUEST_S", 1.0)
    item = insert(db, "text")
    work(db, worker)
    delete_row(db, item)
    with Proxy.before(str(settings.qdrant_url)) as proxy:
        through = settings.model_copy(update={"qdrant_url": proxy.instead(str(settings.qdrant_url))})
        with Client(through) as client:
            proxy.mode = mode
            with pytest.raises(reindexer.DependencyUnavailable, match="is not forgotten: do it again") as refused:
                client.forget(SOURCE, item)
            assert "\n" not in str(refused.value)
            assert "ledger" in mentions(db, item)
            assert db.execute("SELECT FROM reindexer.audit WHERE action <> 'migrate'").fetchall() == []
            assert db.execute("SELECT lease_until FROM reindexer.due").fetchall() == [(None,)]
            proxy.mode = Mode.PASS
            done = client.forget(SOURCE, item)
    assert done.points == 1
    assert points(index, item) == 0
    assert set(mentions(db, item)) <= {"ledger"}


def test_a_message_that_is_on_its_way_brings_nothing_back(
    db: Connection, worker: Worker, index: IndexReader, forget_it: Forget
) -> None:
    """Of a request that is not answered yet: its task id is known, so no second request is recorded."""
    item = insert(db, "text")
    work(db, worker)
    (task,) = requests.submit(db, SOURCE, [item], who="test")
    delete_row(db, item)
    forget_it(item)
    state = one_request.begin(worker, task, SOURCE, item)
    assert (state.state, state.error, state.item_id) == ("FAILURE", "the item was forgotten", "")
    assert mentions(db, item) == []


def test_over_http_on_the_command_line_and_in_python(
    db: Connection,
    settings: Settings,
    worker: Worker,
    index: IndexReader,
    here: Callable[..., Done],
    env: Mapping[str, str],
) -> None:
    items = [insert(db, f"text {n}") for n in range(3)]
    work(db, worker)
    with TestClient(create_app(settings), headers=KEY) as client:
        path = f"/admin/items/{SOURCE}/{items[0].upper()}/forget"
        refused = client.post(path)
        assert (refused.status_code, "delete that row first" in refused.json()["detail"]) == (409, True)
        assert client.post(f"/admin/items/nothing/{items[0]}/forget").status_code == 404
        done = here("forget", SOURCE, items[1], env=env)
        assert (done.returncode, done.stderr.count("\n"), "delete that row first" in done.stderr) == (2, 1, True)
        for item in items:
            delete_row(db, item)
        answer = client.post(path)
        assert (answer.status_code, answer.json()["points"]) == (200, 1)
    done = here("forget", SOURCE, items[1], "--json", env=env)
    assert (done.returncode, json.loads(done.stdout)["points"]) == (0, 1)
    with Client(settings) as python:
        assert python.forget(SOURCE, items[2]).points == 1
    assert [mentions(db, item) for item in items] == [[], [], []]
    who = [
        row[0].split()[0] for row in db.execute("SELECT who FROM reindexer.audit WHERE action <> 'migrate' ORDER BY id")
    ]
    assert who == ["api", "cli", "python"]


def test_a_long_key_is_forgotten_by_its_name(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    long = "k" * 2_650
    with Client(settings) as client:
        db.execute('CREATE TABLE letters (id text COLLATE "C" PRIMARY KEY, body text NOT NULL)')
        client.attach("letters", table="letters", text="body")
        db.execute("INSERT INTO letters VALUES (%s, 'text')", [long])
        settle(db, worker)
        assert mentions(db, long) == ["long_key"]
        db.execute("DELETE FROM letters")
        drain(db)
        assert client.forget("letters", long).points == 1
        assert mentions(db, long[:200]) == []


def test_a_long_key_that_no_drain_has_named_yet_is_forgotten_or_refused_as_any_other(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    long = "k" * 2_650
    with Client(settings) as client:
        db.execute('CREATE TABLE letters (id text COLLATE "C" PRIMARY KEY, body text NOT NULL)')
        client.attach("letters", table="letters", text="body")
        settle(db, worker)
        db.execute("INSERT INTO letters VALUES (%s, 'text')", [long])
        with pytest.raises(RowIsThere):
            client.forget("letters", long)
        db.execute("DELETE FROM letters")
        client.forget("letters", long)
        assert mentions(db, long[:200]) == []


def test_an_upgrade_takes_ids_of_items_out_of_the_audit(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    command.downgrade(alembic_config(empty_url), "0008")
    with connect(empty_url, application_name="test") as old:
        for source, details in (
            (SOURCE, {"items": 1, "item_id": "ü 1"}),
            (None, {"item_id": "2"}),
            (SOURCE, {"item_id": None}),
        ):
            audit.note(old, "former", "replay", source, details)
        migrate(empty_url)
        rows = old.execute("SELECT details FROM reindexer.audit WHERE who = 'former' ORDER BY id").fetchall()
    assert [details for (details,) in rows] == [
        {"items": 1, "item": item_mark(SOURCE, "ü 1")}, {"item": item_mark(None, "2")}, {"item_id": None},
    ]  # fmt: skip
