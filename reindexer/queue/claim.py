"""Claim: take a batch of due items of one source and lane under a lease, with one token for the whole batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow, dict_row

from reindexer.core.breaker import Dependency
from reindexer.core.items import ClaimedItem
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.postgres.schema import REVISION
from reindexer.queue.watermark import Floor

MAX_PAUSE_S = 5.0
"""A due item waits no longer for a claim that looks at all of its lane."""

ITEM_S = 0.00002
"""What claiming an item takes where nothing is in the way."""

Begins = tuple[float | None, float | None]
"""Where looks begin, or what they found first: among items that are not marked, and among those that are."""

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
    marked: bool = False
    """Of its items it is known that nothing but an embedding is left to do: they may wait for it."""
    account: str = ""
    """Whose breaker the provider's was, of those that are told here."""
    failing: frozenset[Dependency] = frozenset()
    """Dependencies that did not answer when they were last asked."""
    probes: frozenset[Dependency] = frozenset()
    """Those of them whose breakers are open: this claim, of one item, is the only one that may ask them now."""
    left_alone: frozenset[Dependency] = frozenset()
    """Those whose breakers are open and that it may not ask."""
    beside: bool = False
    """There were marked items, too."""
    lost: int = 0
    """Items among them whose earlier claim ended without an outcome."""
    suspect: bool = False
    """It is one item, which may have killed a worker: nothing else should be in work beside it."""
    embedder: str | None = None
    """By which the source's points are made; None: none is made yet."""


class LaneFloor:
    """Where the next look into a lane begins: at the first row's `not_before`. Marked items have one of their own."""

    def __init__(self) -> None:
        self._floors: tuple[Floor[float], Floor[float]] = (Floor(MAX_PAUSE_S), Floor(MAX_PAUSE_S))

    def begin(self, now_s: float) -> Begins:
        """Of both. Times are of this process (monotonic)."""
        unmarked, marked = self._floors
        return unmarked.begin(now_s), marked.begin(now_s)

    def found(self, begins: Begins, firsts: Begins, ended_s: float, took_s: float) -> None:
        """See `Floor.found`."""
        for floor, begin, first in zip(self._floors, begins, firsts, strict=True):
            floor.found(begin, first, ended_s, took_s)


def ago_s(floor: float | None, now_s: float) -> float | None:
    """How long before now a look begins that begins at `floor`."""
    return None if floor is None else max(0.0, now_s - floor) + MARGIN_S


def claim_batch(
    connection: Connection,
    lane: str,
    max_items: int,
    lease_s: float,
    except_sources: Sequence[str] = (),
    floor: LaneFloor | None = None,
    *,
    embeds: bool = True,
    tight: bool = False,
) -> Claim | None:
    """Claim up to `max_items` of a lane, of one source picked at random among those that have work ready.

    Items that are marked (nothing but an embedding is left to do) or items that are not, never both; only the latter
    where not `embeds`, or while their provider's breaker is open. While Qdrant's is, None. When an open one may be
    probed, one item. `tight`: marked ones last, as they have to wait.
    """
    floor = floor or LaneFloor()
    began_s = time.monotonic()
    begins = floor.begin(began_s)
    params = {
        "lane": lane, "except_sources": list(except_sources), "embeds": embeds, "tight": tight,
        "begin_ago_s": ago_s(begins[0], began_s), "marked_begin_ago_s": ago_s(begins[1], began_s),
    }  # fmt: skip
    rows = _claim(connection, "claim_batch", params, max_items, lease_s)
    ended_s = time.monotonic()
    first_ago_s, marked_ago_s = (rows[0]["first_ago_s"], rows[0]["marked_first_ago_s"]) if rows else (None, None)
    firsts = (began_s - (first_ago_s or 0.0), began_s - (marked_ago_s or 0.0))
    floor.found(begins, firsts, ended_s, ended_s - began_s - len(rows) * ITEM_S)
    return _read(rows)


def claim_item(
    connection: Connection,
    source: str,
    item_id: str,
    max_items: int,
    lease_s: float,
    *,
    early: bool = False,
    floor: LaneFloor | None = None,
) -> Claim | None:
    """Claim one item, and with it due neighbours of its lane. None if it is settled, or another claim holds it.

    None while Qdrant's breaker is open, or while it is marked and its provider's is; when that may be probed, the item
    alone.

    `early`: also while it waits for another try. `floor`: where the look for neighbours begins.
    """
    began_s = time.monotonic()
    begins = (floor or LaneFloor()).begin(began_s)
    params = {
        "source": source, "item_id": item_id, "early": early, "begin_ago_s": ago_s(begins[0], began_s),
        "marked_begin_ago_s": ago_s(begins[1], began_s),
    }  # fmt: skip
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
        first["problem"], marked=first["marked"], account=first["account"], failing=frozenset(first["failing"]),
        probes=frozenset(first["probes"]), left_alone=frozenset(first["open"]) - frozenset(first["probes"]),
        beside=first["marked_first_ago_s"] is not None, lost=sum(row["lost"] for row in rows), suspect=first["alone"],
        embedder=first["embedder"],
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
        begun_upto=row["begun_upto"],
        known=row["known"],
        healed=row["healed"],
    )
