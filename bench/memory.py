"""Memory of worker, listener and broker, while a worker works and 10,000, 100,000 or 1,000,000 items wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import redis

from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.embedded.children import Child
from reindexer.postgres.triggers import BULK_ROWS

LEVELS = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
WARM_UP_S = 8
WORKING_S = 20
DRAINED_WITHIN_S = 300
SAMPLE_S = 0.05
ROWS = """
INSERT INTO context_items (title, content)
SELECT 'item ' || n, 'A short text about item ' || n || ': ' || md5(n::text) FROM generate_series(1, %s) AS n
"""

Peaks = dict[str, float]
"""The peaks of `worker`, `listener` and `broker` in MB; and `items_per_s`, the items that were settled."""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Peaks at each level, and the increase from the lowest to the highest. Takes minutes: not with `--quick`."""
    if quick:
        return
    peaks = {level: _peaks(stage, items) for level, items in LEVELS.items()}
    for what, name in (("worker", "rss_worker"), ("listener", "rss_listener"), ("broker", "broker")):
        for level, found in peaks.items():
            note = "used_memory of Redis" if what == "broker" else "peak RSS"
            note += f", {LEVELS[level]:,} items wait, {found['items_per_s']:,.0f}/s are worked on; prefork 2"
            figures.add(f"{name}_mb_{level}", found[what], note)
        figures.add(f"{name}_growth", peaks["1m"][what] / peaks["10k"][what], "1,000,000 items wait ÷ 10,000")


def _peaks(stage: Stage, items: int) -> Peaks:
    """The listener's peak includes its start and the drain; the others' are of `WORKING_S`, after a warm-up."""
    with stage.fresh() as bench, redis.Redis.from_url(stage.redis_url) as broker:
        listener = bench.processes.listener()
        while bench.waits():  # the first fill, of an empty table
            time.sleep(0.1)
        peaks: Peaks = {}
        with _sampled(peaks, "listener", lambda: _rss_mb(psutil.Process(listener.process.pid))):
            bench.db.execute(ROWS, [items])
            bench.until_drained(DRAINED_WITHIN_S)
            worker = bench.processes.worker(pool="prefork", concurrency=2)
            _keep(bench, items, WARM_UP_S)
            before = _completed(bench)
            with (
                _sampled(peaks, "worker", lambda: _largest_child_mb(worker)),
                _sampled(peaks, "broker", lambda: broker.info("memory")["used_memory"] / 2**20),
            ):
                _keep(bench, items, WORKING_S)
        done, waiting = _completed(bench) - before, _due(bench)
    if done < 1_000 or abs(waiting - items) > items / 2:
        raise Unsound(f"{done} items were worked on in {WORKING_S} s, and {waiting} wait, not {items}")
    return {**peaks, "items_per_s": done / WORKING_S}


def _keep(bench: Bench, items: int, seconds: float) -> None:
    """For `seconds`, add a new row for each finished one, by statements that go to the bulk lane."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.5)
        if (missing := items - bench.waits()) > BULK_ROWS:
            bench.db.execute(ROWS, [missing])


@contextmanager
def _sampled(peaks: Peaks, what: str, look: Callable[[], float]) -> Iterator[None]:
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            peaks[what] = max(peaks.get(what, 0.0), look())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _largest_child_mb(worker: Child) -> float:
    sizes = [0.0]
    for child in psutil.Process(worker.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            sizes.append(_rss_mb(child))
    return max(sizes)


def _rss_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def _due(bench: Bench) -> int:
    return _number(bench, "SELECT count(*) FROM reindexer.due")


def _completed(bench: Bench) -> int:
    return _number(bench, "SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED'")


def _number(bench: Bench, query: str) -> int:
    row = bench.db.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0
