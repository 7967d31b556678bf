"""Claims that are lost, late or doubled: the token, the fence, doubt and the lease."""

from __future__ import annotations

from dataclasses import replace

from reindexer.core.lanes import Lane
from reindexer.core.text.chunks import Span
from reindexer.ports import Collection, Point
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.dead_letters import heal
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.settings import Settings
from reindexer.testing.provider import Call, FakeProvider, error, vector_of
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.claims import claim, lose_leases
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader


def heal_now(db: Connection) -> None:
    db.execute("UPDATE reindexer.ledger SET heal_at = now() WHERE heal_at IS NOT NULL")
    assert heal(db) == 1


def test_two_claims_never_hold_the_same_item(db: Connection, database: str) -> None:
    for n in range(10):
        insert(db, f"text {n}")
    drain(db)
    with connect(database, application_name="other") as other, db.transaction():
        first = claim_batch(db, Lane.LIVE, 6, 60)
        second = claim_batch(other, Lane.LIVE, 6, 60)
    assert first is not None
    assert second is not None
    assert {i.item_id for i in first.items}.isdisjoint(i.item_id for i in second.items)
    assert len(first.items) + len(second.items) == 10


def test_a_token_is_higher_than_every_earlier_one_even_if_the_clock_goes_back(db: Connection) -> None:
    insert(db, "text")
    drain(db)
    first = claim(db)
    far_ahead = first.token + 10**12
    db.execute("UPDATE reindexer.due SET token = %s", [far_ahead])
    lose_leases(db)
    assert claim(db).token == far_ahead + 1
    assert far_ahead < 2**53


def test_a_token_is_higher_than_the_ledgers_even_if_the_clock_goes_back(db: Connection, worker: Worker) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    row = db.execute("UPDATE reindexer.ledger SET token = token + 1000000000000 RETURNING token").fetchone()
    assert row is not None
    db.execute("UPDATE context_items SET content = 'other' WHERE id = %s", [item_id])
    drain(db)
    assert claim(db).token == row[0] + 1


def test_a_lost_claim_is_doubtful_and_taken_alone(db: Connection) -> None:
    for n in range(5):
        insert(db, f"text {n}")
    drain(db)
    claim(db)
    lose_leases(db)
    again = claim(db)
    assert len(again.items) == 1
    assert again.items[0].doubtful
    assert again.items[0].attempts == 2


def test_a_late_claim_settles_nothing(db: Connection, worker: Worker) -> None:
    item_id = insert(db, "text")
    drain(db)
    late = claim(db)
    lose_leases(db)
    claim(db)
    settled = finish(db, late, [Finished(late.items[0], "COMPLETED", "x", "y", 1)])
    assert settled.item_ids == ()
    assert status(db, item_id) == ("PROCESSING", None)


def test_a_claim_whose_lease_ran_out_but_that_nobody_took_still_settles(db: Connection) -> None:
    item_id = insert(db, "text")
    drain(db)
    late = claim(db)
    lose_leases(db)
    finish(db, late, [Finished(late.items[0], "COMPLETED", "x", "y", 1)])
    assert status(db, item_id) == ("COMPLETED", None)


def test_a_to_b_killed_before_settle_back_to_a_ends_with_a(db: Connection, worker: Worker, index: IndexReader) -> None:
    item_id = insert(db, "A")
    work(db, worker)
    db.execute("UPDATE context_items SET content = 'B'")
    drain(db)
    died = claim(db)
    written = Point(item_id, 0, vector_of("B"), {}, "print of B", Span(0, 1))
    worker.index.upsert(Collection("context_items", "context_items__g1", "context_items"), [written], died.token, 5)
    assert index.holds(item_id, vector_of("B"))
    db.execute("UPDATE context_items SET content = 'A'")
    lose_leases(db)
    work(db, worker)
    assert index.holds(item_id, vector_of("A"))


def test_a_worker_that_went_on_after_its_lease_does_not_overwrite_a_newer_text(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "old")
    successor = make_worker(settings, None)  # another process: in one, a suspect waits for what is in work beside it
    taken_over = []

    def stopped_too_long(call: Call) -> None:
        if call.inputs != ("old",):
            return
        lose_leases(db)
        db.execute("UPDATE context_items SET content = 'new'")
        work(db, successor)
        taken_over.append(index.holds(item_id, vector_of("new")))

    provider.behave = stopped_too_long
    work(db, worker)
    successor.close()
    assert taken_over == [True]
    assert provider.inputs == ["old", "new"]
    assert index.holds(item_id, vector_of("new"))
    assert status(db, item_id) == ("COMPLETED", None)


def test_a_write_that_qdrant_refuses_is_noticed_and_done_again(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """As after a restore of Postgres to an earlier time: Qdrant holds a token from the future."""
    item_id = insert(db, "before")
    work(db, worker)
    future = 2**52
    from reindexer.core.items import point_id

    index.client.set_payload(
        "context_items", {"version": future}, [point_id("context_items", item_id, 0)], key="_reindexer", wait=True
    )
    db.execute("UPDATE context_items SET content = 'after'")
    work(db, worker)
    assert index.holds(item_id, vector_of("after"))
    payload = index.payload(item_id)
    assert payload is not None
    assert payload["_reindexer"]["version"] == future + 1
    db.execute("UPDATE context_items SET content = 'later still'")
    work(db, worker)
    assert index.holds(item_id, vector_of("later still"))


def test_an_edit_that_is_made_during_a_backfill_goes_before_its_next_batch(
    db: Connection, database: str, worker: Worker, provider: FakeProvider
) -> None:
    for n in range(6):
        insert(db, f"filled {n}")
    drain(db)
    db.execute("UPDATE reindexer.due SET lane = 'bulk'")
    worker.limits = replace(worker.limits, batch_size=2)

    def edit(_: Call) -> None:
        if len(provider.calls) == 1:
            with connect(database, application_name="application") as application:
                insert(application, "edited")
                drain(application)

    provider.behave = edit
    assert worker.run_lane(Lane.BULK, budget_s=60) == 7
    edited = [["edited" in each for each in call.inputs] for call in provider.calls]
    assert edited[:2] == [[False, False], [True]]
    assert [each for call in edited[2:] for each in call] == [False] * 4


def test_an_item_whose_worker_dies_each_time_ends_failed_and_heals(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "kills")
    drain(db)
    for _ in range(4):
        claim(db)
        lose_leases(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert status(db, item_id) == ("FAILED", "its worker died each time it was tried")
    assert not provider.calls
    heal_now(db)
    work(db, worker)
    assert index.holds(item_id, vector_of("kills"))


def test_an_item_that_killed_its_workers_is_tried_alone_and_once_when_it_heals(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "kills")
    drain(db)
    for _ in range(4):
        claim(db)
        lose_leases(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    heal_now(db)
    for n in range(5):
        insert(db, f"text {n}")
    db.execute("UPDATE reindexer.outbox SET lane = 'bulk'")
    drain(db)
    healing = claim(db, lane=Lane.BULK)
    assert [item.item_id for item in healing.items] == [item_id]
    lose_leases(db)
    work(db, worker)
    assert status(db, item_id) == ("FAILED", "its worker died each time it was tried")
    assert sorted(provider.inputs) == [f"text {n}" for n in range(5)]
    waits = db.execute(
        "SELECT extract(epoch FROM heal_at - settled_at)::int FROM reindexer.ledger WHERE outcome = 'FAILED'"
    )
    assert waits.fetchone() == (120,), "the next one comes later than the first, which was a minute"
    db.execute("UPDATE context_items SET content = 'edited ' || content")
    drain(db)
    assert sorted(len(claim(db).items) for _ in range(2)) == [1, 5], "nor does an edit of it put others at risk"


def test_an_item_that_was_lost_stays_alone_while_it_is_retried_and_no_longer_than_that(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    ids = {n: insert(db, f"text {n}") for n in range(3)}
    drain(db)
    claim(db)
    lose_leases(db)
    provider.behave = lambda call: error(503) if len(provider.calls) <= 3 else None
    for when in ("infinity", "infinity", "now"):  # each fails once before any is tried again
        worker.run_lane(Lane.LIVE, budget_s=0)
        db.execute("UPDATE reindexer.due SET not_before = %s WHERE lease_until IS NULL", [when])
    db.execute("UPDATE reindexer.due SET not_before = now()")
    for _ in range(3):
        worker.run_lane(Lane.LIVE, budget_s=0)
    assert [len(call.inputs) for call in provider.calls] == [1] * 6
    for n, item_id in ids.items():
        db.execute("UPDATE context_items SET content = %s WHERE id = %s", [f"edited {n}", item_id])
    work(db, worker)
    assert len(provider.calls[-1].inputs) == 3


def test_a_change_after_the_claim_keeps_the_item_due_when_the_claim_settles(db: Connection) -> None:
    item_id = insert(db, "text")
    drain(db)
    held = claim(db)
    db.execute("UPDATE context_items SET content = 'other'")
    drain(db)
    finish(db, held, [Finished(held.items[0], "COMPLETED", "x", "y", 1)])
    assert status(db, item_id) == ("PENDING", None)
    again = claim(db)
    assert again.items[0].version == 2
    assert not again.items[0].doubtful


def test_a_change_after_a_claim_that_settles_after_its_lease_is_doubtful(db: Connection) -> None:
    """Whoever claims it at that moment may have read the ledger as it was before."""
    insert(db, "text")
    drain(db)
    held = claim(db)
    db.execute("UPDATE context_items SET content = 'other'")
    drain(db)
    lose_leases(db)
    finish(db, held, [Finished(held.items[0], "COMPLETED", "x", "y", 1)])
    again = claim(db)
    assert again.items[0].doubtful
    assert again.items[0].losses == 0


def test_a_retry_reads_the_text_anew_and_the_change_behind_it_costs_nothing(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(503) if len(provider.calls) == 1 else None
    item_id = insert(db, "first")
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    db.execute("UPDATE context_items SET content = 'second'")
    db.execute("UPDATE reindexer.due SET not_before = now() - interval '1 s'")
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert index.holds(item_id, vector_of("second"))
    work(db, worker)
    assert provider.inputs == ["first", "second"]
    assert status(db, item_id) == ("COMPLETED", None)


def test_a_claim_reads_little_more_of_the_backlog_than_it_takes(db: Connection) -> None:
    """Else each claim would cost more the more is due, and a long backlog would never end."""
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT 'context_items', n::text, 1, 'live' FROM generate_series(1, 20000) n"
    )
    db.execute("ANALYZE reindexer.due")
    with db.transaction():
        claim(db)
        row = db.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'reindexer.due'::regclass"
        ).fetchone()
    assert row is not None
    assert row[0] < 2000


def test_a_claim_reads_little_more_of_the_ledger_than_it_takes_also_once_it_is_prepared(db: Connection) -> None:
    """A statement that is prepared gets, after some runs, one plan for any number of items."""
    db.execute(
        "INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token)"
        " SELECT 'context_items', n::text, 1, 'COMPLETED', 1 FROM generate_series(1, 20000) n"
    )
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT 'context_items', n::text, 1, 'live' FROM generate_series(1, 20000) n"
    )
    for _ in range(12):
        claim(db)
    with db.transaction():
        claim(db)
        row = db.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'reindexer.ledger'::regclass"
        ).fetchone()
    assert row is not None
    assert row[0] < 2000
