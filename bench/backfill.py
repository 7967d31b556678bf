"""Backfill: rows per second from due to settled, into Qdrant over HTTP. Comparator: a bare loop, the same server."""

from __future__ import annotations

import statistics
import time

from bench.bare_loop import bare_loop
from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.postgres.connect import connect
from reindexer.queue.drain import drain


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Ours and the bare loop in turns, at both latencies of the provider."""
    rows, times = (2_000, 1) if quick else (10_000, 3)
    for latency_ms in (0, 200):
        stage.provider.set_latency(latency_ms)
        ours, bare = list[float](), list[float]()
        for _ in range(times):
            with stage.fresh() as bench:
                bench.fill(rows)
                bare.append(bare_loop(bench, stage.qdrant(), rows))
                backfill(bench, within_s=300)
                ours.append(rows / claimed_to_settled_s(bench))
        found, beside = statistics.median(ours), statistics.median(bare)
        note = f"bare loop {beside:,.0f}; prefork 2, provider {latency_ms} ms, {rows:,} rows"
        figures.add(f"backfill_http_rps_{latency_ms}ms", found, note)
        figures.add(f"backfill_http_ratio_{latency_ms}ms", found / beside, "rows/s ÷ the bare loop's")
    stage.provider.set_latency(0)


def backfill(bench: Bench, within_s: float) -> None:
    """All rows, once each, by a listener and a worker of two processes. The rows are due before these start.

    The first fill, which would find the same rows again, is marked as finished.
    """
    with connect(bench.url, application_name="bench") as connection:
        while drain(connection).changes:
            pass
    bench.db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
    bench.processes.worker(pool="prefork", concurrency=2)
    bench.processes.listener()
    began = time.monotonic()
    while bench.waits():
        if time.monotonic() > began + within_s:
            raise Unsound("the backfill does not end")
        time.sleep(0.05)
    bench.require_all_indexed()


def claimed_to_settled_s(bench: Bench) -> float:
    """Counted from the first claim, so without the listener's start. A token is the microsecond of its claim."""
    query = "SELECT extract(epoch FROM max(settled_at))::float - min(token) / 1e6 FROM reindexer.ledger"
    (seconds,) = bench.db.execute(query).fetchone() or (0.0,)
    return float(seconds)
