"""The age of the oldest change that is not in Qdrant: from its commit on, wherever it waits."""

from __future__ import annotations

import time
import uuid

import pytest

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.monitoring.backlog import Place, completed, lag
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import requests
from reindexer.queue.claim import Claim, claim_batch
from reindexer.queue.dead_letters import heal
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, Postponed, finish, postpone
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, refuse_texts
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work

HOUR_S = 3600.0


def an_hour_passes(db: Connection) -> None:
    """For every change that waits."""
    for table, columns in {
        "outbox": ("changed_at",),
        "due": ("changed_at", "later_changed_at"),
        "ledger": ("changed_at",),
        "run": ("changed_at", "started_at"),
    }.items():
        passed = ", ".join(f"{column} = {column} - interval '1 hour'" for column in columns)
        db.execute(f"UPDATE reindexer.{table} SET {passed}".encode())


def hours(db: Connection, place: Place | None = None) -> int:
    """Whole hours that the oldest change waits, in one place or anywhere; the rest is less than a minute."""
    ages = lag(db).oldest_s
    age_s = max(ages.values()) if place is None else ages[place]
    assert age_s % HOUR_S < 60
    assert state_of_everything(db).oldest_change_age_s % HOUR_S < 60
    return int(age_s // HOUR_S)


def nothing_waits(db: Connection) -> bool:
    return state_of_everything(db).oldest_change_age_s == 0


def edit(db: Connection, text: str) -> None:
    db.execute("UPDATE context_items SET content = %s", [text])


def claimed(db: Connection) -> Claim:
    claim = claim_batch(db, Lane.LIVE, 10, 60) or claim_batch(db, Lane.BULK, 10, 60)
    assert claim is not None
    return claim


def settle(db: Connection, claim: Claim, outcome: str = "COMPLETED", heal_after_s: float | None = None) -> None:
    assert outcome in ("COMPLETED", "FAILED")
    finish(db, claim, [Finished(item, outcome, heal_after_s=heal_after_s) for item in claim.items])  # type: ignore[arg-type]


def test_a_change_is_as_old_in_due_and_in_a_claim_as_it_was_in_the_outbox(db: Connection) -> None:
    assert nothing_waits(db)
    insert(db, "text")
    an_hour_passes(db)
    assert hours(db, "outbox") == 1
    drain(db)
    assert (hours(db, "outbox"), hours(db, "live")) == (0, 1)
    an_hour_passes(db)
    claim = claimed(db)
    assert hours(db, "live") == 2
    settle(db, claim)
    assert nothing_waits(db)


def test_a_later_edit_does_not_make_an_older_one_younger(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    an_hour_passes(db)
    edit(db, "second")
    drain(db)
    assert hours(db) == 1
    postpone(db, claim := claimed(db), [Postponed(item, 0.0, "another try") for item in claim.items])
    edit(db, "third")
    drain(db)
    assert hours(db) == 1


def test_an_edit_that_a_claim_has_not_seen_counts_from_its_own_commit(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    an_hour_passes(db)
    claim = claimed(db)
    edit(db, "second")
    drain(db)
    an_hour_passes(db)
    edit(db, "third")
    drain(db)
    assert hours(db) == 2, "the first is not in Qdrant yet"
    settle(db, claim)
    assert hours(db) == 1, "the second is the oldest now: neither the first, nor the moment of settling"


def test_an_item_that_is_edited_without_pause_is_never_older_than_one_round_of_work(db: Connection) -> None:
    insert(db, "text")
    drain(db)
    for round_ in range(5):
        claim = claimed(db)
        edit(db, f"text {round_}")
        drain(db)
        an_hour_passes(db)
        settle(db, claim)
        assert hours(db) == 1


def test_a_retry_and_a_lost_claim_do_not_make_a_change_younger(db: Connection) -> None:
    insert(db, "text")
    drain(db)
    an_hour_passes(db)
    claim = claimed(db)
    postpone(db, claim, [Postponed(claim.items[0], 0, "away")])
    assert hours(db) == 1
    claimed(db)
    edit(db, "newer")
    drain(db)
    an_hour_passes(db)
    db.execute("UPDATE reindexer.due SET lease_until = now() - interval '1 s', not_before = now()")
    assert hours(db) == 2
    again = claimed(db)
    assert hours(db) == 2
    settle(db, again)
    assert nothing_waits(db)


def test_a_failed_change_that_heals_keeps_its_age_until_it_is_in_qdrant(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(503)
    insert(db, "text")
    drain(db)
    an_hour_passes(db)
    while state_of_everything(db).healing == 0:
        worker.run_lane(Lane.LIVE, budget_s=0)
    assert (hours(db, "live"), hours(db, "healing")) == (0, 1)
    db.execute("UPDATE reindexer.ledger SET heal_at = now()")
    assert heal(db) == 1
    assert hours(db, "bulk") == 1
    provider.behave = lambda call: None
    work(db, worker)
    assert nothing_waits(db)


def test_what_failed_for_good_has_no_age_but_the_edit_after_it_has(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = refuse_texts
    insert(db, "refused")
    work(db, worker)
    an_hour_passes(db)
    assert state_of_everything(db).failed == 1
    assert nothing_waits(db)
    edit(db, "refused too")
    an_hour_passes(db)
    assert hours(db) == 1


def test_a_failure_while_a_newer_edit_waits_leaves_the_older_change_as_the_oldest(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    claim = claimed(db)
    an_hour_passes(db)
    edit(db, "second")
    drain(db)
    settle(db, claim, "FAILED", heal_after_s=60)
    assert hours(db, "live") == 1


def test_a_change_of_a_long_transaction_counts_from_its_commit(db: Connection, database: str) -> None:
    with connect(database, application_name="writer") as writer, writer.transaction():
        insert(writer, "text")
        writer.execute("UPDATE reindexer.outbox SET changed_at = changed_at - interval '1 hour'")
        looked_at = drain(db).looked_at
    drain(db, looked_at=looked_at)
    row = db.execute("SELECT changed_at = %s FROM reindexer.due", [looked_at]).fetchone()
    assert row == (True,), "it has committed after that look, and no later look is known"
    assert hours(db) == 0


@pytest.mark.long
def test_backfills_and_requests_have_no_age_and_leave_that_of_changes_alone(db: Connection, worker: Worker) -> None:
    waiting = insert(db, "text")
    work(db, worker)
    runs.start(db, find_source(db, "context_items"), force=True, who="test")
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    requests.record(
        db, "context_items", [requests.ReindexRequest(str(uuid.uuid4()), waiting)], lane=Lane.BULK, sent=True
    )
    an_hour_passes(db)
    assert state_of_everything(db).pending == 2, "the item and the run"
    assert nothing_waits(db)
    edit(db, "newer")
    drain(db)
    an_hour_passes(db)
    requests.record(
        db, "context_items", [requests.ReindexRequest(str(uuid.uuid4()), waiting)], lane=Lane.BULK, sent=True
    )
    assert hours(db) == 1


def test_a_truncate_and_a_first_fill_wait_until_their_last_item_is_settled(db: Connection, worker: Worker) -> None:
    insert(db, "text")
    work(db, worker)
    db.execute("TRUNCATE context_items")
    an_hour_passes(db)
    assert hours(db, "outbox") == 1
    drain(db)
    assert hours(db, "runs") == 1
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    assert hours(db, "bulk") == 1, "the item, whose deletion is not in Qdrant"
    work(db, worker)
    walk_page(db, lambda name, _: find_source(db, name))
    assert nothing_waits(db)
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'first_fill')")
    an_hour_passes(db)
    assert hours(db, "runs") == 1


def test_a_large_number_of_completed_items_is_an_estimate_and_a_small_one_is_exact(db: Connection) -> None:
    db.execute(
        """
        INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token)
        SELECT CASE WHEN n % 10 = 0 THEN 'other' ELSE 'context_items' END, n::text, 1,
               CASE WHEN n % 5 = 1 THEN 'FAILED' ELSE 'COMPLETED' END, 1
        FROM generate_series(1, 5000) AS n
        """
    )
    db.execute("ANALYZE reindexer.ledger")
    assert completed(db, "context_items", 1) == 3500
    assert completed(db, "context_items", 2) == 0
    assert 3500 * 0.7 < completed(db, "context_items", 1, exact=100) < 3500 * 1.3
    db.execute("DELETE FROM reindexer.ledger WHERE item_id::int > 200")
    db.execute("DELETE FROM pg_statistic WHERE starelid = 'reindexer.ledger'::regclass")
    assert completed(db, "other", 1, exact=7) >= 7, "an estimate is never below what was counted"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_status_of_a_million_items_answers_in_well_under_a_second(db: Connection) -> None:
    db.execute(
        """
        INSERT INTO reindexer.ledger (source, item_id, generation, outcome, text_fingerprint, payload_fingerprint, chunks, token)
        SELECT 'context_items', gen_random_uuid()::text, 1,
               CASE WHEN n % 200 = 0 THEN 'FAILED' WHEN n % 100 = 1 THEN 'DELETED' ELSE 'COMPLETED' END,
               repeat(md5(n::text), 2), repeat(md5(n::text), 2), 1, n
        FROM generate_series(1, 1000000) AS n
        """
    )
    db.execute(
        """
        INSERT INTO reindexer.due (source, item_id, generation, lane, changed_at)
        SELECT 'context_items', gen_random_uuid()::text, 1, CASE WHEN n % 2 = 0 THEN 'live' ELSE 'bulk' END, now()
        FROM generate_series(1, 200000) AS n
        """
    )
    db.execute(
        "INSERT INTO reindexer.outbox (source, item_id) SELECT 'context_items', n::text FROM generate_series(1, 200000) AS n"
    )
    db.execute("ANALYZE reindexer.ledger")
    took_s = []
    for _ in range(5):
        started = time.monotonic()
        now = state_of_everything(db)
        took_s.append(time.monotonic() - started)
    assert (now.outbox, now.pending, now.failed) == (200_000, 200_000, 5_000)
    assert abs(now.completed - 985_000) < 50_000
    assert min(took_s) < 0.5, took_s


def revoked_hours(db: Connection) -> dict[str, int]:
    """Whole hours that what may be a deletion or a payload waits, in each place where it does."""
    return {place: int(age_s // HOUR_S) for place, age_s in lag(db).revoked_s.items() if age_s >= HOUR_S}


def test_a_deletion_shows_its_age_while_a_text_of_which_nothing_else_is_wanted_does_not(db: Connection) -> None:
    insert(db, "waits for its vector")
    deleted = insert(db, "deleted")
    drain(db)
    claim = claimed(db)
    postpone(db, claim, [Postponed(item, 0.0, "no vector", marks=True) for item in claim.items])
    an_hour_passes(db)
    assert (hours(db, "live"), revoked_hours(db)) == (1, {})
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    an_hour_passes(db)
    assert revoked_hours(db) == {"outbox": 1}
    drain(db)
    assert revoked_hours(db) == {"live": 2}, "that of the item: its changes before are not in Qdrant either"
    db.execute("UPDATE reindexer.due SET not_before = now() + interval '1 h' WHERE item_id <> %s", [deleted])
    claim = claimed(db)
    assert [item.item_id for item in claim.items] == [deleted]
    assert revoked_hours(db) == {"live": 2}, "until it is settled"
    settle(db, claim)
    assert (hours(db, "live"), revoked_hours(db)) == (2, {})


def test_what_failed_shows_as_a_deletion_unless_it_was_its_embedding_that_failed(db: Connection) -> None:
    for payload_fingerprint, shown in (("of its row", {}), (None, {"healing": 1})):
        insert(db, "text")
        drain(db)
        claim = claimed(db)
        failed = Finished(claim.items[0], "FAILED", payload_fingerprint=payload_fingerprint, heal_after_s=60)
        finish(db, claim, [failed])
        an_hour_passes(db)
        assert revoked_hours(db).keys() == shown.keys()


def test_truncate_shows_as_a_deletion_and_a_first_fill_does_not(db: Connection) -> None:
    insert(db, "text")
    db.execute("DELETE FROM reindexer.outbox")
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'first_fill')")
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    an_hour_passes(db)
    assert (hours(db, "bulk"), revoked_hours(db)) == (1, {})
    db.execute("TRUNCATE context_items")
    drain(db)
    an_hour_passes(db)
    assert revoked_hours(db) == {"runs": 1}
