"""Edits behind a backfill: freshness while a table is filled for the first time.

Comparator: a process for each lane, as `reindexer worker --lanes live` beside `--lanes bulk` (docs/adr/0009).
"""

from __future__ import annotations

import time

from bench.figures import Figures
from bench.freshness import edits, percentile
from bench.stage import Bench, Stage, Unsound
from reindexer.core.lanes import LANES

TOGETHER = "together"
SEPARATE = "separate"


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """One edit per second, with two worker processes: both on both lanes, and one a lane; at both latencies."""
    rows, seconds, least = (30_000, 12, 8) if quick else (100_000, 60, 20)
    for latency_ms in (0, 200):
        stage.provider.set_latency(latency_ms)
        for how in (TOGETHER, SEPARATE):
            found, rate = _one(stage, how, rows, seconds, least)
            suffix = ("" if how == TOGETHER else f"_{how}") + ("" if not latency_ms else f"_{latency_ms}ms")
            note = f"1 edit/s, {len(found)} edits, while {rate:,.0f} rows/s of {rows:,} are filled; prefork 2, {how}"
            for share, of in ((0.5, "p50"), (0.99, "p99")):
                figures.add(f"fresh_under_backfill{suffix}_{of}_ms", 1000 * percentile(found, share), note)
            figures.add(f"fresh_under_backfill{suffix}_rps", rate, note)
    stage.provider.set_latency(0)


def _one(stage: Stage, how: str, rows: int, seconds: int, least: int) -> tuple[list[float], float]:
    with stage.fresh() as bench:
        bench.fill(rows)
        bench.db.execute("TRUNCATE reindexer.outbox")  # as if the rows had been there before the triggers
        bench.processes.listener()
        if how == TOGETHER:
            bench.processes.worker(pool="prefork", concurrency=2)
        else:
            for lane in LANES:
                bench.processes.worker("-n", f"{lane}@%h", pool="prefork", concurrency=1, lanes=[lane])
        while _completed(bench) < 1_000:
            time.sleep(0.1)
        before, began = _completed(bench), time.monotonic()
        found = edits(bench, 1, seconds, goes_on=lambda: _completed(bench) < 0.95 * rows)
        done, took = _completed(bench) - before, time.monotonic() - began
        if len(found) < least:
            raise Unsound(f"the backfill of {rows:,} rows was over after {len(found)} edits")
        return found, done / took


def _completed(bench: Bench) -> int:
    row = bench.db.execute("SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED'").fetchone()
    return int(row[0]) if row else 0
