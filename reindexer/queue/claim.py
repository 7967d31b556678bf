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
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.postgres.schema import REVISION
from reindexer.queue.watermark import Watermark

MAX_PAUSE_S = 5.0
"""Maximum time that a due item waits for a claim that scans its whole lane."""

ITEM_S = 0.00002
"""Time to claim one item without obstruction, in seconds."""

Begins = tuple[float | None, float | None]
"""Where scans begin, or the first rows that they found: for unmarked items, and for marked ones."""

MARGIN_S = 1.0
"""Margin below the first row that was found: rows are committed somewhat later than their `not_before`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Due items of one generation of a source that this process may work on until the lease expires."""

    source: str
    generation: int
    lane: Lane
    token: int
    """Fencing token, larger than every earlier token of these items. Of two writes to a point the larger token wins."""
    items: tuple[ClaimedItem, ...]
    claimed_at: datetime
    """By the database's clock, before any row was read."""
    problem: str | None = None
    """Why the source could not be worked on when it was last tried."""
    marked: bool = False
    """Its items need nothing but an embedding, so they may wait for one."""
    account: str = ""
    """The account of the provider whose breaker `failing`, `probes` and `left_alone` report."""
    failing: frozenset[Dependency] = frozenset()
    """Dependencies that did not answer when last asked."""
    probes: frozenset[Dependency] = frozenset()
    """Those of `failing` whose breakers are open, and which only this claim, of one item, may ask now."""
    left_alone: frozenset[Dependency] = frozenset()
    """Dependencies whose breakers are open, and which this claim may not ask."""
    over_budget: bool = False
    """A budget is used up that stops requests for these items."""
    donors: tuple[int, ...] = ()
    """Other kept generations of the source whose vectors are made by the same embedder."""
    beside: bool = False
    """The scan found marked items too."""
    lost: int = 0
    """How many of its items had an earlier claim that ended without an outcome."""
    suspect: bool = False
    """The claim is one item that may have killed a worker. Nothing else should run beside it."""
    embedder: str | None = None
    """Fingerprint of the embedder that makes the generation's points. None: it has no point yet."""
    is_active: bool = True
    """Searches use the generation."""


class LaneWatermark:
    """Low watermark of a lane: the next scan begins at the first row's `not_before`. Marked items have their own."""

    def __init__(self) -> None:
        self._watermarks: tuple[Watermark[float], Watermark[float]] = (Watermark(MAX_PAUSE_S), Watermark(MAX_PAUSE_S))

    def begin(self, now_s: float) -> Begins:
        """Return where the scans of unmarked and of marked items begin. Times are monotonic, of this process."""
        unmarked, marked = self._watermarks
        return unmarked.begin(now_s), marked.begin(now_s)

    def found(self, begins: Begins, firsts: Begins, ended_s: float, took_s: float) -> None:
        """See `Watermark.found`."""
        for watermark, begin, first in zip(self._watermarks, begins, firsts, strict=True):
            watermark.found(begin, first, ended_s, took_s)


def ago_s(watermark: float | None, now_s: float) -> float | None:
    """How many seconds before now a scan from `watermark` begins."""
    return None if watermark is None else max(0.0, now_s - watermark) + MARGIN_S


def claim_batch(
    connection: Connection,
    lane: Lane,
    max_items: int,
    lease_s: float,
    left_to_others: Sequence[tuple[str, int]] = (),
    watermark: LaneWatermark | None = None,
    *,
    embeds: bool = True,
    tight: bool = False,
) -> Claim | None:
    """Claim up to `max_items` of a lane, of one source picked at random among those with work ready.

    A claim holds either marked items (which need nothing but an embedding) or unmarked ones, never both. With `embeds`
    false, or while their provider's breaker is open, it holds unmarked items only. While Qdrant's breaker is open the
    result is None. An open breaker that may be probed gets a claim of one item. `tight`: marked items come last,
    because they have to wait for the rate limiter. `left_to_others`: generations, by source and number, of
    which nothing is claimed.
    """
    watermark = watermark or LaneWatermark()
    began_s = time.monotonic()
    begins = watermark.begin(began_s)
    params = {
        "lane": lane, "embeds": embeds, "tight": tight, "except_sources": [source for source, _ in left_to_others],
        "except_generations": [generation for _, generation in left_to_others],
        "begin_ago_s": ago_s(begins[0], began_s), "marked_begin_ago_s": ago_s(begins[1], began_s),
    }  # fmt: skip
    rows = _claim(connection, "claim_batch", params, max_items, lease_s)
    ended_s = time.monotonic()
    first_ago_s, marked_ago_s = (rows[0]["first_ago_s"], rows[0]["marked_first_ago_s"]) if rows else (None, None)
    firsts = (began_s - (first_ago_s or 0.0), began_s - (marked_ago_s or 0.0))
    watermark.found(begins, firsts, ended_s, ended_s - began_s - len(rows) * ITEM_S)
    return _read(rows)


def claim_item(
    connection: Connection,
    source: str,
    item_id: str,
    max_items: int,
    lease_s: float,
    *,
    watermark: LaneWatermark | None = None,
) -> Claim | None:
    """Claim one item, and due neighbours of its lane with it. None if it is settled, or another claim holds it.

    Also None while Qdrant's breaker is open, or while the item is marked and its provider's breaker is open. If that
    breaker may be probed, the item is claimed alone.

    `watermark`: where the scan for neighbours begins.
    """
    began_s = time.monotonic()
    begins = (watermark or LaneWatermark()).begin(began_s)
    params = {
        "source": source, "item_id": item_id, "begin_ago_s": ago_s(begins[0], began_s),
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
        first["source"], first["generation"], Lane(first["lane"]), first["token"], items, first["claimed_at"],
        first["problem"], marked=first["marked"], account=first["account"], failing=frozenset(first["failing"]),
        probes=frozenset(first["probes"]), left_alone=frozenset(first["open"]) - frozenset(first["probes"]),
        beside=first["marked_first_ago_s"] is not None, lost=sum(row["lost"] for row in rows), suspect=first["alone"],
        embedder=first["embedder"], is_active=first["state"] == "active",
        donors=tuple(first["donors"]), over_budget=first["over_budget"],
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
        tries_since_failed=row["healed"],
        traces=tuple(row["traces"] or ()),
    )
