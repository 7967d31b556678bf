"""Idle: the CPU time of listener, worker and API while there is nothing to do."""

from __future__ import annotations

import time

import psutil

from bench.figures import Figures
from bench.stage import Stage


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Measures in percent of one core, from ten seconds after the last change."""
    seconds = 10 if quick else 60
    with stage.fresh() as bench:
        api, _ = bench.processes.api()
        roots = [bench.processes.listener(), bench.processes.worker(pool="prefork", concurrency=2), api]
        bench.fill(100)
        while bench.waits():
            time.sleep(0.1)
        time.sleep(10)
        ours = [each for root in roots for each in _family(root.process.pid)]
        before, began = _cpu_s(ours), time.monotonic()
        time.sleep(seconds)
        figures.add("idle_cpu_percent", 100 * (_cpu_s(ours) - before) / (time.monotonic() - began),
                    f"{len(ours)} processes, for {seconds} s; Postgres and Redis not counted")  # fmt: skip


def _family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)
