"""Marks: what a writer's transaction leaves to do, from its commit until all of it is indexed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from reindexer.backfills.pager import walk_page
from reindexer.core.errors import UsageError
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import marks
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error
from reindexer.worker.worker import Worker
from tests.support.flow import Flow, insert, work


@pytest.fixture
def other(db: Connection, database: str) -> Iterator[Connection]:
    """A second session, which does not commit by itself."""
    with connect(database, application_name="test") as connection:
        connection.autocommit = False
        yield connection
        connection.rollback()


def mark(connection: Connection) -> str:
    row = connection.execute("SELECT reindexer.mark()").fetchone()
    assert row is not None
    return str(row[0])


def state(db: Connection, token: str) -> str:
    return marks.states(db, [token])[token]


def written(db: Connection, *texts: str) -> tuple[str, list[str]]:
    """A transaction that is marked and inserts these texts."""
    with db.transaction():
        token = mark(db)
        return token, [insert(db, each) for each in texts]


def test_a_mark_is_indexed_once_each_of_its_rows_is(db: Connection, worker: Worker, other: Connection) -> None:
    token = mark(other)
    ids = [insert(other, "one"), insert(other, "two")]
    assert state(db, token) == "open"
    other.commit()
    assert state(db, token) == "waiting"
    assert [(each.item_id, each.reason) for each in marks.left(db, token)] == [(None, "changes are not drained yet")]
    drain(db)
    assert state(db, token) == "waiting"
    assert {each.item_id for each in marks.left(db, token)} == set(ids)
    claim = claim_batch(db, Lane.LIVE, 1, 60)
    assert claim is not None
    finish(db, claim, [Finished(each, "COMPLETED") for each in claim.items])
    assert state(db, token) == "waiting"
    work(db, worker)
    assert state(db, token) == "indexed"
    assert db.execute("SELECT count(*) FROM reindexer.note").fetchone() == (0,)


def test_a_transaction_has_one_token_and_no_rows_are_needed(db: Connection, other: Connection) -> None:
    token = mark(other)
    assert mark(other) == token
    other.commit()
    assert state(db, token) == "indexed"


def test_a_transaction_that_is_rolled_back_is_told_at_once(db: Connection, other: Connection) -> None:
    token = mark(other)
    insert(other, "never")
    other.rollback()
    assert state(db, token) == "rolled_back"


def test_rows_under_savepoints_and_exception_blocks_count_for_the_top_transaction(
    db: Connection, worker: Worker
) -> None:
    with db.transaction():
        with db.transaction():
            insert(db, "in a savepoint")
            with db.transaction():
                insert(db, "deeper")
        db.execute(
            "DO $$ BEGIN BEGIN INSERT INTO context_items (content) VALUES ('in a block'); EXCEPTION WHEN OTHERS THEN END; END $$"
        )
        token = mark(db)
        with pytest.raises(ZeroDivisionError), db.transaction():
            insert(db, "undone")
            raise ZeroDivisionError
    drain(db)
    assert len(marks.left(db, token)) == 3
    assert state(db, token) == "waiting"
    work(db, worker)
    assert state(db, token) == "indexed"


def test_an_item_that_is_due_already_is_waited_for(db: Connection, worker: Worker) -> None:
    item_id = insert(db, "first")
    drain(db)
    with db.transaction():
        token = mark(db)
        db.execute("UPDATE context_items SET content = 'second' WHERE id = %s", [item_id])
    drain(db)
    assert state(db, token) == "waiting"
    work(db, worker)
    assert state(db, token) == "indexed"


def test_a_claim_that_read_the_row_before_does_not_release_it(db: Connection, worker: Worker) -> None:
    item_id = insert(db, "first")
    drain(db)
    claim = claim_batch(db, Lane.LIVE, 10, 60)
    assert claim is not None
    with db.transaction():
        token = mark(db)
        db.execute("UPDATE context_items SET content = 'second' WHERE id = %s", [item_id])
    drain(db)
    finish(db, claim, [Finished(each, "COMPLETED") for each in claim.items])
    assert state(db, token) == "waiting"
    work(db, worker)
    assert state(db, token) == "indexed"


def test_edits_that_coalesce_release_each_of_their_marks(db: Connection, worker: Worker) -> None:
    item_id = insert(db, "text")
    tokens = []
    for n in range(4):
        with db.transaction():
            tokens.append(mark(db))
            db.execute("UPDATE context_items SET content = %s WHERE id = %s", [f"text {n}", item_id])
        if n == 1:
            drain(db)
    drain(db)
    assert set(marks.states(db, tokens).values()) == {"waiting"}
    work(db, worker)
    assert set(marks.states(db, tokens).values()) == {"indexed"}


def test_a_deleted_row_is_waited_for(db: Connection, worker: Worker) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    with db.transaction():
        db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
        token = mark(db)
    drain(db)
    assert state(db, token) == "waiting"
    work(db, worker)
    assert state(db, token) == "indexed"


def test_a_failed_item_is_told_with_its_reason_until_an_edit_mends_it(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in each for each in call.inputs) else None
    token, ids = written(db, "good", "bad")
    work(db, worker)
    assert state(db, token) == "failed"
    (told,) = marks.left(db, token)
    assert (told.source, told.item_id, told.failed) == ("context_items", ids[1], True)
    assert "400" in told.reason
    db.execute("UPDATE context_items SET content = 'better' WHERE id = %s", [ids[1]])
    work(db, worker)
    assert state(db, token) == "indexed"


def test_truncate_is_waited_for_until_the_last_row_has_left(db: Connection, worker: Worker) -> None:
    for n in range(5):
        insert(db, f"text {n}")
    work(db, worker)
    with db.transaction():
        token = mark(db)
        db.execute("TRUNCATE context_items")
    assert state(db, token) == "waiting"
    drain(db)
    assert [each.item_id for each in marks.left(db, token)] == [None]
    walk(db)
    assert state(db, token) == "waiting"
    assert len(marks.left(db, token)) == 5
    work(db, worker)
    assert state(db, token) == "indexed"


def test_what_is_claimed_when_the_last_page_is_queued_is_settled_once_more(db: Connection, worker: Worker) -> None:
    """Its settle may have begun before, and then it does not see the note."""
    insert(db, "text")
    drain(db)
    with db.transaction():
        token = mark(db)
        db.execute("TRUNCATE context_items")
    drain(db)
    while db.execute("SELECT FROM reindexer.run WHERE state = 'working'").fetchone() is None:
        assert walk_page(db, lambda name, _: find_source(db, name))
    claim = claim_batch(db, Lane.LIVE, 10, 60)
    assert claim is not None
    walk(db)
    finish(db, claim, [Finished(each, "DELETED") for each in claim.items])
    assert state(db, token) == "waiting"
    work(db, worker)
    assert state(db, token) == "indexed"


def test_a_second_mark_of_a_run_that_begins_anew_waits_for_it(db: Connection, worker: Worker) -> None:
    insert(db, "text")
    work(db, worker)
    tokens = []
    for _ in range(2):
        with db.transaction():
            tokens.append(mark(db))
            db.execute("TRUNCATE context_items")
        drain(db)
    walk(db)
    assert set(marks.states(db, tokens).values()) == {"waiting"}
    work(db, worker)
    assert set(marks.states(db, tokens).values()) == {"indexed"}


def test_tokens_of_others_are_told_from_those_that_are_forgotten(db: Connection, other: Connection) -> None:
    token = mark(other)
    other.commit()
    for wrong in ("", "1", "x-1", f"{token[:-1]}g", token + "0"):
        with pytest.raises(UsageError):
            marks.require_form(wrong)
    forged, to_come, past = f"{token.split('-')[0]}-{'0' * 16}", "9000000000000000000-0123456789abcdef", "3-" + "0" * 16
    assert marks.states(db, [token, forged, to_come, past]) == {
        token: "indexed", forged: "unknown", to_come: "unknown", past: "expired"
    }  # fmt: skip


def test_marks_are_forgotten_only_when_nothing_is_left_of_them(db: Connection, worker: Worker) -> None:
    done, _ = written(db, "done")
    work(db, worker)
    noted, _ = written(db, "noted")
    drain(db)
    undrained, _ = written(db, "undrained")
    for _ in range(2):
        marks.forget(db)
        assert [state(db, each) for each in (done, noted, undrained)] == ["indexed", "waiting", "waiting"]
        db.execute("UPDATE reindexer.mark SET marked_at = marked_at - interval '61 min' WHERE xact <> %s::text::xid8",
                   [done.split("-")[0]])  # fmt: skip
    db.execute("UPDATE reindexer.mark SET marked_at = marked_at - interval '61 min'")
    marks.forget(db)
    assert [state(db, each) for each in (done, noted, undrained)] == ["expired", "waiting", "waiting"]
    db.execute("UPDATE reindexer.mark SET marked_at = marked_at - interval '8 days'")
    marks.forget(db)
    assert db.execute("SELECT count(*) FROM reindexer.mark").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM reindexer.note").fetchone() == (0,)


def test_a_procedure_waits_outside_of_a_transaction(db: Connection, worker: Worker, other: Connection) -> None:
    token, _ = written(db, "text")
    waits = "CALL reindexer.wait(%s, '0.1 s')"
    assert db.execute(waits, [token]).fetchone() == ("timeout", "context_items: changes are not drained yet")
    work(db, worker)
    assert db.execute(waits, [token]).fetchone() == ("indexed", None)
    token = mark(other)
    assert db.execute(waits, [token]).fetchone() == ("timeout", "the transaction has not committed")
    with pytest.raises(psycopg.errors.InvalidTransactionState, match="commit the transaction first"):
        other.execute(waits, [token])
    other.rollback()
    assert db.execute(waits, [token]).fetchone() == ("rolled_back", None)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no token"):
        db.execute(waits, ["mine"])


def test_an_item_is_waited_for_by_its_id(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in each for each in call.inputs) else None
    good, bad = insert(db, "good"), insert(db, "bad")
    asked = [("context_items", good), ("context_items", bad), ("context_items", "e0edea26-2911-4219-853e-4f82f5163fc2")]
    assert [each[0] for each in marks.item_states(db, asked).values()].count("waiting") == 2
    drain(db)
    assert marks.item_states(db, asked)["context_items", good][0] == "waiting"
    work(db, worker)
    told = marks.item_states(db, asked)
    assert (told["context_items", good][0], told["context_items", bad][0]) == ("indexed", "failed")
    assert "400" in str(told["context_items", bad][1])
    db.execute("TRUNCATE context_items")
    assert {each[0] for each in marks.item_states(db, asked).values()} == {"waiting"}
    drain(db)
    assert {each[0] for each in marks.item_states(db, asked).values()} == {"waiting"}
    assert Flow(db, worker).settles() or Flow(db, worker).settles()
    assert {each[0] for each in marks.item_states(db, asked).values()} == {"indexed"}


def walk(db: Connection) -> None:
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass


def test_a_mark_that_a_snapshot_does_not_see_is_open(db: Connection, other: Connection) -> None:
    other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    other.execute("SELECT")
    token, _ = written(db, "text")
    assert state(other, token) == "open"
    other.commit()
    assert state(other, token) == "waiting"


def test_an_item_that_failed_while_a_run_queued_its_pages_is_told(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in each for each in call.inputs) else None
    bad = insert(db, "bad")
    work(db, worker)
    with db.transaction():
        token = mark(db)
        db.execute("INSERT INTO reindexer.outbox (source) VALUES ('context_items')")
    drain(db)
    while db.execute("SELECT FROM reindexer.run WHERE state = 'working'").fetchone() is None:
        assert walk_page(db, lambda name, _: find_source(db, name))
    worker.run_lane(Lane.BULK, budget_s=5)
    walk(db)
    assert state(db, token) == "failed"
    assert [each.item_id for each in marks.left(db, token)] == [bad]


def test_notes_of_a_detached_source_go_with_it(db: Connection, worker: Worker) -> None:
    token, _ = written(db, "text")
    drain(db)
    assert state(db, token) == "waiting"
    detach(db, find_source(db, "context_items"), who="test", lease_s=1)
    assert db.execute("SELECT count(*) FROM reindexer.note").fetchone() == (0,)
    assert state(db, token) == "indexed"


MANY = 10_000
UNMARKED = "INSERT INTO context_items (content) SELECT n::text FROM generate_series(1, %s) AS n"
BY_EACH_ITS_OWN = """
UPDATE reindexer.outbox SET xact = numbered.xact
FROM (SELECT ctid, (3 + row_number() OVER ())::text::xid8 AS xact FROM reindexer.outbox) AS numbered
WHERE outbox.ctid = numbered.ctid
"""


def drained_in_s(db: Connection, *, marked: bool, transactions: int = 1) -> float:
    with db.transaction():
        if marked:
            mark(db)
        db.execute(UNMARKED, [MANY])
        if transactions > 1:
            db.execute(BY_EACH_ITS_OWN)
            if marked:
                db.execute("INSERT INTO reindexer.mark (xact) SELECT xact FROM reindexer.outbox ON CONFLICT DO NOTHING")
    began = time.monotonic()
    drain(db)
    took_s = time.monotonic() - began
    assert db.execute("SELECT count(*) FROM reindexer.note").fetchone() == (MANY if marked else 0,)
    db.execute("TRUNCATE reindexer.note, reindexer.mark, reindexer.due")
    return took_s


@pytest.mark.parametrize("transactions", [1, MANY])
def test_many_marked_rows_are_drained_nearly_as_quickly_as_others(db: Connection, transactions: int) -> None:
    unmarked = drained_in_s(db, marked=False, transactions=transactions)
    marked = drained_in_s(db, marked=True, transactions=transactions)
    print(f"{MANY} rows: {unmarked:.2f} s unmarked, {marked:.2f} s marked")
    assert marked < 6 * unmarked
