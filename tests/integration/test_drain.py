"""What a drain writes: what is due already and would be as it is, is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.claim import Claim, claim_batch
from reindexer.queue.drain import FEW_PAGES, drain, outbox_watermark
from reindexer.queue.settle import Finished, Postponed, finish, postpone
from reindexer.sources.store import find_source
from tests.support.flow import insert


def edit(db: Connection, text: str) -> None:
    db.execute("UPDATE context_items SET content = %s", [text])


def claimed(db: Connection, lease_s: float = 60) -> Claim:
    claim = claim_batch(db, Lane.LIVE, 10, lease_s)
    assert claim is not None
    return claim


def place(db: Connection) -> object:
    """Which version of its row the item has; written anew it would be another."""
    return db.execute("SELECT ctid, xmin FROM reindexer.due").fetchone()


def test_a_change_of_what_is_due_already_is_taken_and_leaves_its_row_as_it_is(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    before = place(db)
    edit(db, "second")
    drained = drain(db)
    assert (drained.changes, drained.live) == (1, 0)
    assert place(db) == before
    assert drain(db).changes == 0


def test_a_change_of_what_is_claimed_is_noticed_by_a_settle_that_comes_late(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    claim = claimed(db, lease_s=0)
    edit(db, "second")
    drain(db)
    finish(db, claim, [Finished(item, "COMPLETED") for item in claim.items])
    assert db.execute("SELECT lease_until FROM reindexer.due").fetchone() == (None,)


def test_a_change_begins_the_tries_anew(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    postpone(db, claim := claimed(db), [Postponed(item, 0.0, "another try") for item in claim.items])
    edit(db, "second")
    drain(db)
    assert db.execute("SELECT attempts FROM reindexer.due").fetchone() == (0,)


def test_a_drain_whose_rows_took_long_makes_no_later_change_wait(db: Connection) -> None:
    """Only the rows that it passed over can say how long the next look at the whole outbox takes."""
    many = "INSERT INTO reindexer.outbox (source, item_id, lane) SELECT 'context_items', n::text, 'bulk'"
    db.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'"
    )
    db.execute("CREATE TRIGGER slow AFTER INSERT ON reindexer.due FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    watermark = outbox_watermark()
    db.execute(f"{many} FROM generate_series(1, 20000) AS n".encode())
    assert drain(db, watermark=watermark).changes == 20_000
    db.execute(f"{many} FROM generate_series(1, 10) AS n".encode())
    assert (drain(db, watermark=watermark).first_page or 0) > FEW_PAGES
    db.execute("VACUUM reindexer.outbox")
    insert(db, "in a page below")
    page = db.execute("SELECT (ctid::text::point)[0]::int FROM reindexer.outbox").fetchone()
    assert page == (0,)
    assert drain(db, watermark=watermark).changes == 1


def is_claimed(db: Connection) -> None:
    claimed(db)


def waits_for_another_try(db: Connection) -> None:
    claim = claimed(db)
    postpone(db, claim, [Postponed(item, 60.0, "the provider is away") for item in claim.items])


def waits_although_the_attempt_was_given_back(db: Connection) -> None:
    claim = claimed(db)
    postpone(db, claim, [Postponed(item, 60.0, "a rate limit", counts=False) for item in claim.items])


def waits_and_was_queued_by_a_run(db: Connection) -> None:
    waits_although_the_attempt_was_given_back(db)
    runs.start(db, find_source(db, "context_items"), force=True, who="test")
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass


def is_in_the_bulk_lane(db: Connection) -> None:
    db.execute("UPDATE reindexer.due SET lane = 'bulk'")


def is_to_be_looked_at_without_a_change(db: Connection) -> None:
    claim = claimed(db)
    finish(db, claim, [Finished(item, "COMPLETED") for item in claim.items])
    requests.record(
        db,
        "context_items",
        [requests.ReindexRequest("task", item.item_id) for item in claim.items],
        lane=Lane.LIVE,
        sent=True,
    )


@pytest.mark.parametrize(
    "prepare",
    [
        is_claimed, waits_for_another_try, waits_although_the_attempt_was_given_back, waits_and_was_queued_by_a_run,
        is_in_the_bulk_lane, is_to_be_looked_at_without_a_change,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_a_change_of_what_is_due_already_but_otherwise_is_written(
    db: Connection, prepare: Callable[[Connection], None]
) -> None:
    insert(db, "first")
    drain(db)
    prepare(db)
    edit(db, "second")
    assert drain(db).live == 1
    state = db.execute("""
        SELECT lane, waits_for, changed_at IS NOT NULL, lease_until IS NOT NULL OR not_before <= clock_timestamp()
        FROM reindexer.due
    """).fetchone()
    assert state == ("live", None, True, True)
