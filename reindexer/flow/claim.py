"""Claim: take a batch of due items of one source and lane under a lease, with one token for the whole batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow, dict_row

from reindexer.core.breaker import Dependency
from reindexer.core.floor import Floor
from reindexer.core.items import ClaimedItem
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.postgres.schema import REVISION

MAX_PAUSE_S = 5.0
"""A due item waits no longer for a claim that looks at all of its lane."""

ITEM_S = 0.00002
"""What claiming an item takes where nothing is in the way."""

MARGIN_S = 1.0
"""Below the first row that was found: rows are committed somewhat later than `not_before`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Due items of one source that this process may work on until the lease is over."""

    source: str
    generation: int
    lane: str
    token: int
    """Larger than every earlier token of these items: of two writes to a point, the larger token's stays."""
    items: tuple[ClaimedItem, ...]
    claimed_at: datetime
    """By the database's clock, before any row was read."""
    problem: str | None = None
    """Why the source could not be worked on when it was last tried."""
    failing: frozenset[Dependency] = frozenset()
    """Dependencies that did not answer when they were last asked."""
    probes: frozenset[Dependency] = frozenset()
    """Those of them whose breakers are open: this claim, of one item, is the only one that may ask them now."""
    lost: int = 0
    """Items among them whose earlier claim ended without an outcome."""
    suspect: bool = False
    """It is one item, which may have killed a worker: nothing else should be in work beside it."""
    embedder: str | None = None
    """By which the source's points are made; None: none is made yet."""


def lane_floor() -> Floor[float]:
    """A floor for the claims of one lane: the first row's `not_before`, as a time of this process (monotonic)."""
    return Floor(MAX_PAUSE_S)


def ago_s(floor: float | None, now_s: float) -> float | None:
    """How long before now a look begins that begins at `floor`."""
    return None if floor is None else max(0.0, now_s - floor) + MARGIN_S


def claim_batch(
    connection: Connection,
    lane: str,
    max_items: int,
    lease_s: float,
    except_sources: Sequence[str] = (),
    floor: Floor[float] | None = None,
) -> Claim | None:
    """Claim up to `max_items` of a lane, of one source picked at random among those that have work ready.

    None while a breaker is open; when it may be probed, one item.
    """
    began_s = time.monotonic()
    begin = floor.begin(began_s) if floor else None
    params = {"lane": lane, "except_sources": list(except_sources), "begin_ago_s": ago_s(begin, began_s)}
    rows = _claim(connection, "claim_batch", params, max_items, lease_s)
    if floor:
        ended_s = time.monotonic()
        first_s = began_s - rows[0]["first_ago_s"] if rows else began_s
        floor.found(begin, first_s, ended_s, ended_s - began_s - len(rows) * ITEM_S)
    return _read(rows)


def claim_item(
    connection: Connection,
    source: str,
    item_id: str,
    max_items: int,
    lease_s: float,
    *,
    early: bool = False,
    floor: Floor[float] | None = None,
) -> Claim | None:
    """Claim one item, and with it due neighbours of its lane. None if it is settled, or another claim holds it.

    None while a breaker is open; when it may be probed, the item alone.

    `early`: also while it waits for another try. `floor`: where the look for neighbours begins.
    """
    began_s = time.monotonic()
    begin = floor.begin(began_s) if floor else None
    params = {"source": source, "item_id": item_id, "early": early, "begin_ago_s": ago_s(begin, began_s)}
    return _read(_claim(connection, "claim_item", params, max_items, lease_s))


def _claim(connection: Connection, query: str, params: dict[str, Any], max_items: int, lease_s: float) -> list[DictRow]:
    queries = load("claim.sql")
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "\n".join((queries["gate"], queries[query], queries["claim_picked"])),
            params | {"max_items": max_items, "lease_s": lease_s, "revision": REVISION},
        ).fetchall()


def _read(rows: Sequence[DictRow]) -> Claim | None:
    if not rows:
        return None
    first = rows[0]
    items = tuple(map(_item, rows))
    return Claim(
        first["source"], first["generation"], first["lane"], first["token"], items, first["claimed_at"],
        first["problem"], frozenset(first["failing"]), frozenset(first["probes"]), sum(row["lost"] for row in rows),
        first["alone"], first["embedder"],
    )  # fmt: skip


def _item(row: DictRow) -> ClaimedItem:
    return ClaimedItem(
        item_id=row["item_id"],
        version=row["version"],
        attempts=row["attempts"],
        forced=row["forced"],
        doubtful=row["doubtful"],
        losses=row["losses"],
        doubted_ago_s=row["doubted_ago_s"],
        text_fingerprint=row["text_fingerprint"],
        payload_fingerprint=row["payload_fingerprint"],
        chunks=row["chunks"],
        chunk_tokens=row["chunk_tokens"],
        known=row["known"],
        healed=row["healed"],
    )
