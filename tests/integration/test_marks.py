"""Marks: what a writer's transaction leaves to do, from its commit until all of it is indexed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

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
from reindexer.testing.waiting import eventually
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
    marks.forget_settled(db)
    assert db.execute("SELECT count(*) FROM reindexer.drained").fetchone() == (0,)


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


def test_a_failure_of_a_later_edit_is_not_that_of_a_mark_that_was_indexed(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in each for each in call.inputs) else None
    token, ids = written(db, "good")
    work(db, worker)
    with db.transaction():
        later = mark(db)
        db.execute("UPDATE context_items SET content = 'bad' WHERE id = %s", [ids[0]])
    assert marks.states(db, [token, later]) == {token: "indexed", later: "waiting"}
    work(db, worker)
    assert marks.states(db, [token, later]) == {token: "indexed", later: "failed"}
    forgotten(db)
    assert marks.states(db, [token, later]) == {token: "indexed", later: "failed"}


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
    for wrong in ("", "1", "x-1", token.replace("-", "-g", 1), token + "x"):
        with pytest.raises(UsageError):
            marks.require_form(wrong)
    xact, _, marker = token.split("-")
    forged, nobodys, to_come = (
        f"{xact}-{'0' * 16}-{marker}",
        f"{xact}-{'0' * 16}-9",
        f"9000000000000000000-{'0' * 16}-{marker}",
    )
    before = f"{xact}-{'0' * 16}"
    """Of a version that wrote a row for each mark."""
    assert marks.states(db, [token, forged, nobodys, to_come, before]) == {
        token: "indexed", forged: "unknown", nobodys: "expired", to_come: "unknown", before: "expired"
    }  # fmt: skip


def older(db: Connection, table: str, column: str, age: str) -> None:
    db.execute(f"UPDATE reindexer.{table} SET {column} = {column} - interval '{age}'".encode())


def forgotten(db: Connection) -> None:
    marks.forget_settled(db)
    marks.forget(db)


@pytest.fixture
def ended(db: Connection, database: str) -> Callable[..., tuple[str, list[str]]]:
    """A session that marks a transaction which inserts these texts, and ends."""

    def ended(*texts: str) -> tuple[str, list[str]]:
        with connect(database, application_name="test") as session:
            told = written(session, *texts)
        marker = told[0].split("-")[2]
        gone = "SELECT FROM reindexer.marker WHERE id = %s AND pid IN (SELECT pid FROM pg_stat_activity)"
        eventually(lambda: db.execute(gone, [marker]).fetchone() is None)
        return told

    return ended


def test_a_session_that_marked_is_forgotten_only_when_nothing_is_left_of_it(
    db: Connection, worker: Worker, ended: Callable[..., tuple[str, list[str]]]
) -> None:
    token, _ = ended("text")
    forgotten(db)
    older(db, "marker", "ended_at", "61 min")
    older(db, "outbox", "changed_at", "61 min")
    forgotten(db)
    assert state(db, token) == "waiting", "it is not drained"
    drain(db)
    older(db, "marker", "made_at", "62 min")
    older(db, "drained", "drained_at", "61 min")
    forgotten(db)
    assert state(db, token) == "waiting", "it is not settled"
    work(db, worker)
    assert state(db, token) == "indexed"
    forgotten(db)
    assert state(db, token) == "expired"


def test_a_session_that_lives_is_not_forgotten(db: Connection, worker: Worker) -> None:
    token, _ = written(db, "text")
    work(db, worker)
    older(db, "marker", "made_at", "9 days")
    for _ in range(2):
        forgotten(db)
        older(db, "marker", "ended_at", "9 days")
    assert state(db, token) == "indexed"
    later, _ = written(db, "text")
    assert state(db, later) == "waiting"


def test_what_failed_is_told_as_long_as_a_token_is_known(
    db: Connection, worker: Worker, provider: FakeProvider, ended: Callable[..., tuple[str, list[str]]]
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in each for each in call.inputs) else None
    token, ids = ended("good", "bad")
    work(db, worker)
    forgotten(db)
    assert state(db, token) == "failed"
    assert [each.item_id for each in marks.left(db, token)] == [ids[1]]
    assert db.execute("SELECT item_ids FROM reindexer.drained").fetchall() == [([ids[1]],)]
    older(db, "marker", "ended_at", "61 min")
    forgotten(db)
    assert state(db, token) == "expired"
    marks.forget_settled(db)
    assert db.execute("SELECT count(*) FROM reindexer.drained").fetchone() == (0,)


def test_after_a_week_it_is_not_known_what_became_of_a_transaction(db: Connection, worker: Worker) -> None:
    token, _ = written(db, "text")
    drain(db)
    done, _ = written(db, "later")
    older(db, "drained", "drained_at", "8 days")
    forgotten(db)
    assert marks.states(db, [token, done]) == {token: "expired", done: "waiting"}
    work(db, worker)
    assert marks.states(db, [token, done]) == {token: "expired", done: "indexed"}


@pytest.mark.parametrize(("bound", "each"), [("MAX_EXAMINED", 2), ("MAX_EXAMINED_ITEMS", 1)])
def test_what_drains_kept_is_examined_some_at_a_time(
    db: Connection, worker: Worker, monkeypatch: pytest.MonkeyPatch, bound: str, each: int
) -> None:
    for n in range(5):
        written(db, f"text {n}")
        drain(db)
    moments = [moment for (moment,) in db.execute("SELECT moment FROM reindexer.drained ORDER BY moment").fetchall()]
    work(db, worker)
    monkeypatch.setattr(marks, bound, each)
    rounds = [0]
    while (upto := marks.forget_settled(db, rounds[-1])) is not None:
        rounds.append(upto)
    assert rounds == [0, *moments[each - 1 : -1 : each]]
    assert db.execute("SELECT count(*) FROM reindexer.drained").fetchone() == (0,)


def test_traces_are_forgotten_after_an_hour(db: Connection) -> None:
    db.execute("SELECT reindexer.mark(%s)", ["00-" + "a" * 32 + "-" + "b" * 16 + "-01"])
    forgotten(db)
    assert db.execute("SELECT count(*) FROM reindexer.mark").fetchone() == (1,)
    older(db, "mark", "marked_at", "61 min")
    forgotten(db)
    assert db.execute("SELECT count(*) FROM reindexer.mark").fetchone() == (0,)


def test_a_session_keeps_what_it_marks_with_once_that_is_committed(db: Connection, other: Connection) -> None:
    """Whatever is marked by a session's row commits after it; a transaction that is prepared keeps settings at once."""
    setting = "SELECT current_setting('reindexer.marker', true)"
    first = mark(other)
    other.commit()
    assert other.execute(setting).fetchone() in ((None,), ("",))
    other.rollback()
    second = mark(other)
    other.rollback()
    third = mark(other)
    other.commit()
    assert marks.states(db, [first, second, third]) == {first: "indexed", second: "rolled_back", third: "indexed"}
    assert other.execute(setting).fetchone() not in ((None,), ("",))
    other.execute("RESET ALL")
    other.commit()
    with other.transaction():
        mark(other)
        token = mark(other)
        insert(other, "text")
    assert state(db, token) == "waiting"
    assert db.execute("SELECT count(*) FROM reindexer.marker").fetchone() == (1,)


def test_a_session_whose_first_mark_is_rolled_back_marks_anew(db: Connection, other: Connection) -> None:
    first = mark(other)
    other.rollback()
    with other.transaction():
        with pytest.raises(ZeroDivisionError), other.transaction():
            undone = mark(other)
            raise ZeroDivisionError
        insert(other, "text")
        token = mark(other)
    assert marks.states(db, [first, undone, token]) == {first: "rolled_back", undone: "expired", token: "waiting"}


def test_a_mark_under_a_savepoint_stands_for_the_whole_transaction(db: Connection, other: Connection) -> None:
    for _ in range(2):
        with other.transaction():
            mark(other)
    with other.transaction():
        insert(other, "kept")
        with pytest.raises(ZeroDivisionError), other.transaction():
            token = mark(other)
            raise ZeroDivisionError
    assert state(db, token) == "waiting"


def test_a_mark_writes_nothing(db: Connection, other: Connection) -> None:
    for _ in range(2):
        with other.transaction():
            mark(other)
    (before,) = db.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or ("",)
    tokens = set[str]()
    for _ in range(100):
        with other.transaction():
            tokens.add(mark(other))
    (written_,) = db.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", [before]).fetchone() or (0,)
    assert len(tokens) == 100
    assert written_ < 100 * 150, "more than a commit"
    assert db.execute("SELECT count(*) FROM reindexer.marker").fetchone() == (1,)


def test_while_nobody_marks_nothing_is_kept(db: Connection, worker: Worker) -> None:
    insert(db, "text")
    drain(db)
    assert db.execute("SELECT count(*) FROM reindexer.drained").fetchone() == (0,)


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
    written(db, "of the same session, before")
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


def test_what_is_kept_of_a_detached_source_go_with_it(db: Connection, worker: Worker) -> None:
    token, _ = written(db, "text")
    drain(db)
    assert state(db, token) == "waiting"
    detach(db, find_source(db, "context_items"), who="test", lease_s=1)
    assert db.execute("SELECT count(*) FROM reindexer.drained").fetchone() == (0,)
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
    began = time.monotonic()
    drain(db)
    took_s = time.monotonic() - began
    kept = db.execute("SELECT coalesce(sum(cardinality(item_ids)), 0) FROM reindexer.drained").fetchone()
    assert kept == (MANY if marked else 0,)
    db.execute("TRUNCATE reindexer.drained, reindexer.due")
    return took_s


@pytest.mark.parametrize("transactions", [1, MANY])
def test_many_marked_rows_are_drained_nearly_as_quickly_as_others(db: Connection, transactions: int) -> None:
    unmarked = drained_in_s(db, marked=False, transactions=transactions)
    marked = drained_in_s(db, marked=True, transactions=transactions)
    print(f"{MANY} rows: {unmarked:.2f} s unmarked, {marked:.2f} s marked")
    assert marked < 3 * unmarked
