"""Waits: the time from a marked edit's commit until whoever waits for its mark is told. Comparator: freshness, the time
until an independent client can read the point, by the same processes, in turns."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median

from pydantic import SecretStr

from bench.figures import Figures
from bench.freshness import ROWS, edits, percentile
from bench.stage import Bench, Stage, Unsound
from reindexer import Client, Settings

RATE = 10
WITHIN_S = 30.0


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Edits without and with a mark that is waited for; in turns."""
    seconds, times = (5, 1) if quick else (20, 5)
    fresh, waited = list[list[float]](), list[list[float]]()
    with stage.fresh() as bench, Client(Settings(database_url=SecretStr(bench.url))) as client:
        bench.fill(ROWS)
        bench.processes.listener()
        bench.processes.worker(pool="prefork", concurrency=2)
        while bench.waits():
            time.sleep(0.1)
        bench.require_all_indexed()
        for _ in range(times):
            fresh.append(edits(bench, RATE, seconds))
            waited.append(_waits(bench, client, seconds))
    note = f"{RATE} marked edits/s, Client.wait; prefork 2"
    for share, of in ((0.5, "p50"), (0.99, "p99")):
        found, without = (median(percentile(each, share) for each in rounds) for rounds in (waited, fresh))
        figures.add(f"wait_{of}_ms", 1000 * found, f"{note}; the point can be read after {1000 * without:.1f} ms")
    ratio = median(percentile(a, 0.99) / percentile(b, 0.99) for a, b in zip(waited, fresh, strict=True))
    figures.add("wait_ratio", ratio, "p99 ÷ p99 of freshness in the turn before")


def _waits(bench: Bench, client: Client, seconds: float) -> list[float]:
    """Seconds until each mark was told to be indexed."""
    ids = [str(row[0]) for row in bench.db.execute("SELECT id FROM context_items ORDER BY md5(id::text)")]
    tag, waits, began = uuid.uuid4().hex[:8], list[Future[float]](), time.monotonic()

    def wait(token: str, committed: float) -> float:
        if (told := client.wait(token, timeout_s=WITHIN_S)).status != "indexed":
            raise Unsound(f"a wait ended with {told}")
        return time.monotonic() - committed

    with ThreadPoolExecutor(RATE) as pool:
        for n in range(int(RATE * seconds)):
            time.sleep(max(0.0, began + n / RATE - time.monotonic()))
            with bench.db.transaction():
                row = bench.db.execute("SELECT reindexer.mark()").fetchone()
                bench.db.execute(
                    "UPDATE context_items SET title = %s WHERE id = %s", [f"wait {tag} {n}", ids[n % len(ids)]]
                )
            waits.append(pool.submit(wait, str(row and row[0]), time.monotonic()))
        return [each.result() for each in waits]
