"""A day that never was: minutes as the listener records them, with a backfill in the evening and a gap."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta

from reindexer.monitoring.buffer import MetricsBuffer, labels_text
from reindexer.monitoring.metrics import FRESHNESS, SETTLED, SOURCE_INPUTS
from reindexer.monitoring.metrics_store import write
from reindexer.postgres.connect import Connection

GAP = range(130, 165)
"""Minutes ago."""
BACKFILL = range(210, 300)
BOUNDS = (("0.025", 0.2), ("0.05", 0.55), ("0.1", 0.2), ("0.25", 0.042))


def record_past(db: Connection, sources: tuple[str, ...]) -> None:
    """Write it, up to this minute, and count it as if it had been."""
    chance = random.Random(7)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    live = bulk = texts = 0.0
    within = {bound: 0.0 for bound, _ in (*BOUNDS, ("0.5", 0), ("1.0", 0), ("2.5", 0))}
    rows = []
    for ago in range(24 * 60, -1, -1):
        minute = now - timedelta(minutes=ago)
        busy = ago in BACKFILL
        edits = 60 * (6 + 4 * math.sin(ago / 229) + chance.uniform(-1.2, 1.2))
        live, bulk = live + edits, bulk + (60 * chance.uniform(150, 190) if busy else chance.uniform(0, 20))
        texts += edits * 0.4 + (60 * 90 if busy else 0)
        slower = chance.uniform(0.6, 1.6)
        for bound, share in BOUNDS:
            within[bound] += edits * share * (0.8 if busy else 1) * (slower if bound in ("0.05", "0.25") else 1)
        within["0.5"] += edits * (0.18 if busy else 0.006)
        within["1.0"] += edits * (0.02 if busy else 0.002)
        waiting = 100 * (BACKFILL.stop - ago) * (ago - BACKFILL.start) / 20 if busy else chance.randint(0, 9)
        if ago in GAP:
            continue
        counted = {
            "live": {"settled": live, "within": dict(within)},
            "bulk": {"settled": bulk, "within": {}},
        }
        oldest_s = chance.uniform(0.02, 0.3) + (chance.uniform(0.5, 2.5) if busy else 0)
        rows.append(("", minute, minute, round(waiting), 1, oldest_s, json.dumps(counted)))
        rows += [
            (name, minute, minute, round(waiting / len(sources)), 1 - place, oldest_s,
             json.dumps({"texts": texts / len(sources), "tokens": 12 * texts / len(sources)}))
            for place, name in enumerate(sources)
        ]  # fmt: skip
    with db.transaction(), db.cursor() as cursor:
        cursor.execute("LOCK reindexer.history")
        cursor.execute("DELETE FROM reindexer.history")
        with cursor.copy("COPY reindexer.history FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    counted_now = MetricsBuffer()
    counted_now.add(SOURCE_INPUTS, texts / 2, source="notes", embedder="e")
    for lane, items in (("live", live), ("bulk", bulk)):
        counted_now.add(SETTLED, items, lane=lane, outcome="embedded")
    sums = {(f"{FRESHNESS}_bucket", labels_text(lane="live", le=bound)): items for bound, items in within.items()}
    write(db, {**counted_now.take(), **sums})


def record_spend(db: Connection) -> None:
    """A month of what the tenants' notes cost."""
    chance = random.Random(11)
    today = datetime.now(UTC).date()
    with (
        db.cursor() as cursor,
        cursor.copy(
            "COPY reindexer.spend (day, source, account, model, purpose, requests, tokens, unconfirmed_tokens, unpriced_tokens,"
            " micro_dollars) FROM STDIN"
        ) as copy,
    ):
        for ago in range(1, 30):
            for source, purpose, share in (("notes", "edit", 1.0), ("notes", "search", 0.2), ("others", "edit", 0.3)):
                tokens = round(share * chance.uniform(2e6, 4e6) * (5 if ago == 12 and purpose == "edit" else 1))
                copy.write_row((today - timedelta(days=ago), source, "a", "text-embedding-3-small", purpose, tokens // 900,
                                tokens, 50_000 if ago == 9 else 0, 0, tokens * 0.02))  # fmt: skip
