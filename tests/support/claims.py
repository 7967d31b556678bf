"""Claims, and leases that end before their time."""

from __future__ import annotations

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.claim import Claim, claim_batch


def lose_leases(db: Connection) -> None:
    """As if the lease time had passed."""
    db.execute("UPDATE reindexer.due SET lease_until = now() - interval '1 s', not_before = now()")


def claim(db: Connection, lease_s: float = 60, lane: Lane = Lane.LIVE) -> Claim:
    taken = claim_batch(db, lane, 100, lease_s)
    assert taken is not None
    return taken
