"""The bulk endpoint: how long its answer takes."""

from __future__ import annotations

import time

import httpx

from bench.figures import Figures
from bench.freshness import percentile
from bench.stage import Bench, Stage, Unsound


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """p95 for 100 and for 1,000 ids, with the worker stopped and with it running."""
    times = 10 if quick else 40
    # One client: httpx.post() would load the system's certificates for each request, longer than some answers take.
    with stage.fresh() as bench, httpx.Client(timeout=30) as client:
        bench.fill(1_000)
        ids = [str(row[0]) for row in bench.db.execute("SELECT id FROM context_items")]
        bench.processes.listener()
        _, url = bench.processes.api()
        for running in (False, True):
            if running:
                bench.processes.worker(pool="prefork", concurrency=2)
            for count in (100, 1_000):
                p95_ms = 1000 * percentile([_ask(client, bench, url, ids[:count]) for _ in range(times)], 0.95)
                name = f"bulk_endpoint_{count}_p95_ms"
                figures.add(
                    f"{name}_running" if running else name, p95_ms, f"worker {'running' if running else 'stopped'}"
                )


def _ask(client: httpx.Client, bench: Bench, url: str, ids: list[str]) -> float:
    began = time.monotonic()
    answer = client.post(
        f"{url}/admin/bulk/regenerate-embeddings", json={"context_ids": ids},
        headers={"X-API-Key": bench.env["REINDEXER_ADMIN_API_KEY"]},
    )  # fmt: skip
    took = time.monotonic() - began
    if answer.status_code != 202 or answer.json()["queued_count"] != len(ids):
        raise Unsound(f"the endpoint answered {answer.status_code}")
    return took
