"""Late writes: what a worker that stood still, or a slow network, writes for an item that has been deleted since.

Qdrant's fence compares a write with the point that stands there. Where none does, the point is made. So an item that
has lost its point within a day of a doubtful claim is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reindexer.core.owner import Owner
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.text.chunks import Span
from reindexer.ports import Collection, Point
from reindexer.postgres.connect import Connection
from reindexer.queue.claim import Claim
from reindexer.queue.drain import drain
from reindexer.queue.maintenance import forget, recheck
from reindexer.testing.provider import FakeProvider, refuse_texts, vector_of
from reindexer.worker.worker import Worker
from tests.support.claims import claim, lose_leases
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
COLLECTION = Collection("context_items", "context_items__g1", "context_items")


Lose = Callable[[Connection, Worker, str], Claim]


def lost_claim(db: Connection) -> Claim:
    """A claim of what is due, whose worker stands still until its lease is over."""
    drain(db)
    taken = claim(db)
    lose_leases(db)
    return taken


def write_late(worker: Worker, late: Claim, item_id: str) -> None:
    """The worker of that claim goes on: its write leaves now."""
    point = Point(item_id, 0, vector_of("late"), {}, "print of late", Span(0, 4))
    worker.index.upsert(COLLECTION, [point], late.token, 5)


def pass_time(db: Connection, seconds: float) -> None:
    """As if that much time had passed since the ledger was written."""
    db.execute(
        "UPDATE reindexer.ledger SET doubted_at = doubted_at - make_interval(secs => %(s)s),"
        " recheck_at = recheck_at - make_interval(secs => %(s)s), settled_at = settled_at - make_interval(secs => %(s)s)",
        {"s": seconds},
    )


def next_recheck_s(db: Connection) -> float | None:
    row = db.execute("SELECT extract(epoch FROM recheck_at - clock_timestamp()) FROM reindexer.ledger").fetchone()
    assert row is not None
    return None if row[0] is None else float(row[0])


def delete_under_doubt(db: Connection, worker: Worker, item_id: str) -> Claim:
    late = lost_claim(db)
    db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
    work(db, worker)
    return late


def delete_after_a_certain_claim(db: Connection, worker: Worker, item_id: str) -> Claim:
    """The claim that deletes is certain, and so was the one before it: only the first was lost."""
    late = lost_claim(db)
    work(db, worker)
    assert status(db, item_id) == ("COMPLETED", None)
    db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
    work(db, worker)
    return late


def blank_after_a_certain_claim(db: Connection, worker: Worker, item_id: str) -> Claim:
    late = lost_claim(db)
    work(db, worker)
    db.execute("UPDATE context_items SET content = '' WHERE id = %s", [item_id])
    work(db, worker)
    return late


@pytest.mark.parametrize("lose", [delete_under_doubt, delete_after_a_certain_claim, blank_after_a_certain_claim])
def test_a_point_that_a_late_write_made_again_is_removed_one_lease_an_hour_or_a_day_later(
    db: Connection, worker: Worker, index: IndexReader, lose: Lose
) -> None:
    item_id = insert(db, "text")
    late = lose(db, worker, item_id)
    for wait_s in (MINUTE_S, HOUR_S, DAY_S):
        write_late(worker, late, item_id)
        assert index.count() == 1, "the fence lets it through: there was nothing to compare it with"
        assert recheck(db) == 0
        left_s = next_recheck_s(db)
        assert left_s is not None
        assert left_s <= wait_s
        pass_time(db, left_s)
        assert recheck(db) == 1
        work(db, worker)
        assert index.count() == 0
    assert next_recheck_s(db) is None


def test_the_rechecks_are_one_lease_an_hour_and_a_day_after_the_doubt(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    delete_under_doubt(db, worker, item_id)
    waits_s = []
    while (left_s := next_recheck_s(db)) is not None:
        waits_s.append(left_s)
        pass_time(db, left_s)
        recheck(db)
        work(db, worker)
    assert waits_s == pytest.approx([MINUTE_S, HOUR_S - MINUTE_S, DAY_S - HOUR_S], abs=10)


def test_a_delete_long_after_the_doubt_is_rechecked_until_a_day_after_it_and_later_not_at_all(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    lost_claim(db)
    work(db, worker)
    pass_time(db, DAY_S - HOUR_S)
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert next_recheck_s(db) == pytest.approx(HOUR_S, abs=10)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'again')", [item_id])
    work(db, worker)
    assert next_recheck_s(db) is None
    pass_time(db, HOUR_S)
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert next_recheck_s(db) is None


def test_a_deleted_item_is_not_forgotten_before_its_last_recheck(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """It may wait for longer than deleted items are kept, where its source is paused."""
    item_id = insert(db, "text")
    late = delete_under_doubt(db, worker, item_id)
    write_late(worker, late, item_id)
    pass_time(db, 8 * DAY_S)
    assert recheck(db) == 1
    forget(db)
    work(db, worker)
    assert index.count() == 0
    pass_time(db, 8 * DAY_S)
    forget(db)
    assert db.execute("SELECT count(*) FROM reindexer.ledger").fetchone() == (0,)


def test_a_delete_without_any_doubt_is_not_rechecked(db: Connection, worker: Worker, index: IndexReader) -> None:
    insert(db, "text")
    work(db, worker)
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert next_recheck_s(db) is None


def test_a_recheck_of_an_item_that_was_inserted_again_leaves_it_alone(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    delete_under_doubt(db, worker, item_id)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'again')", [item_id])
    drain(db)
    pass_time(db, MINUTE_S)
    assert recheck(db) == 0, "it is due already"
    work(db, worker)
    assert index.holds(item_id, vector_of("again"))
    assert recheck(db) == 0
    assert provider.inputs.count("again") == 1


def test_a_late_write_is_refused_where_the_item_was_inserted_again(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    late = delete_under_doubt(db, worker, item_id)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'again')", [item_id])
    work(db, worker)
    write_late(worker, late, item_id)
    assert index.holds(item_id, vector_of("again"))


def test_an_item_that_is_inserted_again_after_a_late_write_is_what_is_found(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    late = delete_under_doubt(db, worker, item_id)
    write_late(worker, late, item_id)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'again')", [item_id])
    work(db, worker)
    assert index.holds(item_id, vector_of("again"))


def test_the_point_of_an_item_that_failed_under_doubt_goes_with_its_row(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    """Nothing was ever settled but a failure; yet the claim that was lost had written."""
    item_id = insert(db, "text")
    died = lost_claim(db)
    worker.index.prepare(COLLECTION, worker.embedder_of(CONTEXT_ITEMS).dimensions, Owner(None))
    write_late(worker, died, item_id)
    provider.behave = refuse_texts
    work(db, worker)
    assert (status(db, item_id) or ("",))[0] == "FAILED"
    pass_time(db, 2 * DAY_S)
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert index.count() == 0
