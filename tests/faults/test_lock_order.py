"""Whoever locks several due rows does so in the order of their keys: while it waits for one it holds no later one, so that
drains, requests, settles and timers can't deadlock."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection, connect
from reindexer.queue import requests
from reindexer.queue.claim import Claim, claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, Postponed, finish, postpone
from reindexer.testing.waiting import eventually

ITEMS = [f"00000000-0000-0000-0000-{n:012}" for n in range(100)]


def due_in_odd_order(db: Connection) -> None:
    """Due rows that lie on disk from the last key to the first."""
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT 'context_items', item_id, 1, 'live' FROM unnest(%s::text[]) AS item_id ORDER BY item_id DESC",
        [ITEMS],
    )


def claimed(db: Connection) -> Claim:
    taken = claim_batch(db, Lane.LIVE, len(ITEMS), 60)
    assert taken is not None
    assert len(taken.items) == len(ITEMS)
    return taken


def drains(db: Connection) -> Callable[[Connection], object]:
    db.execute(
        "INSERT INTO reindexer.outbox (source, item_id) SELECT 'context_items', unnest(%s::text[])", [ITEMS[::-1]]
    )
    return drain


def asked(db: Connection) -> Callable[[Connection], object]:
    asked = [requests.ReindexRequest(f"task-{item_id}", item_id) for item_id in ITEMS[::-1]]
    return lambda other: requests.record(other, "context_items", asked, lane=Lane.BULK, sent=True)


def finishes(db: Connection) -> Callable[[Connection], object]:
    taken = claimed(db)
    return lambda other: finish(other, taken, [Finished(item, "COMPLETED", "x", "y", 1) for item in taken.items[::-1]])


def postpones(db: Connection) -> Callable[[Connection], object]:
    taken = claimed(db)
    return lambda other: postpone(other, taken, [Postponed(item, 0.0, "later") for item in taken.items[::-1]])


@pytest.mark.parametrize("prepare", [drains, asked, finishes, postpones], ids=lambda each: each.__name__)
def test_who_waits_for_the_first_of_many_due_rows_holds_none_of_the_others(
    db: Connection, database: str, prepare: Callable[[Connection], Callable[[Connection], object]]
) -> None:
    due_in_odd_order(db)
    with connect(database, application_name="locker") as other:
        act = prepare(db)  # a claim is settled by a connection that is older, or there may have been a crash
        other.execute("SET enable_sort = off")  # an order that nobody asked for is no order
        thread = threading.Thread(target=act, args=[other])
        with db.transaction():
            db.execute("SELECT FROM reindexer.due WHERE item_id = %s FOR UPDATE", [ITEMS[0]])
            thread.start()
            eventually(lambda: waits(db))
            free = db.execute(
                "SELECT count(*) FROM (SELECT FROM reindexer.due WHERE item_id > %s FOR UPDATE SKIP LOCKED) AS free",
                [ITEMS[0]],
            ).fetchone()
        thread.join()
    assert free == (len(ITEMS) - 1,)


def waits(db: Connection) -> bool:
    row = db.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'locker' AND wait_event_type = 'Lock'"
    ).fetchone()
    return row == (1,)
