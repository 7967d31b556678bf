"""Edits behind a backfill: freshness while a table is filled for the first time."""

from __future__ import annotations

import time

from bench.figures import Figures
from bench.freshness import edits, percentile
from bench.stage import Bench, Stage, Unsound


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """One edit per second, with one prefork worker of two processes and a provider of 0 ms."""
    rows, seconds, least = (30_000, 12, 8) if quick else (100_000, 60, 20)
    with stage.fresh() as bench:
        bench.fill(rows)
        bench.db.execute("TRUNCATE reindexer.outbox")  # as if the rows had been there before the triggers
        bench.processes.listener()
        bench.processes.worker(pool="prefork", concurrency=2)
        while _completed(bench) < 1_000:
            time.sleep(0.1)
        before, began = _completed(bench), time.monotonic()
        found = edits(bench, 1, seconds, goes_on=lambda: _completed(bench) < 0.95 * rows)
        done, took = _completed(bench) - before, time.monotonic() - began
        if len(found) < least:
            raise Unsound(f"the backfill of {rows:,} rows was over after {len(found)} edits")
        note = f"1 edit/s, {len(found)} edits, while {done / took:,.0f} rows/s of {rows:,} are filled; prefork 2"
        for share, of in ((0.5, "p50"), (0.99, "p99")):
            figures.add(f"fresh_under_backfill_{of}_ms", 1000 * percentile(found, share), note)


def _completed(bench: Bench) -> int:
    row = bench.db.execute("SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED'").fetchone()
    return int(row[0]) if row else 0
