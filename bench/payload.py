"""Payload updates: items per second of which only the payload changed; they must cause no request to the provider."""

from __future__ import annotations

import statistics
import time

from bench.figures import Figures
from bench.stage import Stage, Unsound


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Measures from the commit of one UPDATE of all rows until nothing waits."""
    rows, times = (2_000 if quick else 10_000), 3
    with stage.fresh() as bench:
        bench.fill(rows)
        bench.processes.listener()
        bench.processes.worker(pool="prefork", concurrency=2)
        while bench.waits():
            time.sleep(0.1)
        before, rates = stage.provider.stats()["requests"], list[float]()
        for n in range(times):
            bench.db.execute("UPDATE context_items SET metadata = jsonb_build_object('n', %s::int)", [n])
            began = time.monotonic()
            while bench.waits():
                time.sleep(0.05)
            rates.append(rows / (time.monotonic() - began))
        bench.require_all_indexed()
        if stage.provider.stats()["requests"] != before:
            raise Unsound("the provider was asked")
        figures.add("payload_updates_per_s", statistics.median(rates), "over HTTP; prefork, 2 processes")
