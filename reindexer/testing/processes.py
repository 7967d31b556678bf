"""Our own processes, started as a user starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from reindexer.core.lanes import LANES
from reindexer.embedded.children import Child, Children, free_port, wait_until_ready

READY_S = 60.0  # so long even a machine takes that measures coverage with all processors at work

LISTENER = [sys.executable, "-m", "reindexer.listen"]


def worker_command(
    *options: str, pool: str, concurrency: int, prefix: str = "reindexer", lanes: Sequence[str] = LANES
) -> list[str]:
    """A worker, on both lanes unless `lanes` names one."""
    queues = ",".join(f"{prefix}.{lane}" for lane in lanes)
    return [
        sys.executable, "-m", "celery", "-A", "reindexer.celery_app", "worker", "-Q", queues,
        "--without-mingle", "--without-gossip", "-P", pool, "-c", str(concurrency), *options,
    ]  # fmt: skip


def api_command(port: int) -> list[str]:
    """The API."""
    return [sys.executable, "-m", "uvicorn", "api.main:app", "--port", str(port)]


def log_of(child: Child) -> str:
    """All that a child has written."""
    return child.log.read_text(encoding="utf-8", errors="replace")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1).is_success
    except httpx.HTTPError:
        return False


class Processes:
    """Starts listeners, workers and APIs with one environment; they end with `children`."""

    def __init__(self, children: Children, env: Mapping[str, str], root: Path) -> None:
        """`root`: the folder in which they start, for example a checkout."""
        self.children = children
        self.root = root
        self.env = {**os.environ, **env, "PYTHONUNBUFFERED": "1"}
        self._started = 0

    def listener(self, **env: str) -> Child:
        """`python -m reindexer.listen`, ready when it leads or stands by."""
        child = self._start("listener", LISTENER, env)
        wait_until_ready(
            child,
            lambda: any(w in log_of(child) for w in ("leadership_acquired", "leadership_awaited", "draining_started")),
            within_s=READY_S,
        )
        return child

    def worker(
        self, *options: str, pool: str = "prefork", concurrency: int = 2, lanes: Sequence[str] = LANES, **env: str
    ) -> Child:
        """`celery -A reindexer.celery_app worker`, ready when it says so."""
        child = self.start_worker(*options, pool=pool, concurrency=concurrency, lanes=lanes, **env)
        wait_until_ready(child, lambda: " ready." in log_of(child), within_s=READY_S)
        return child

    def start_worker(
        self, *options: str, pool: str, concurrency: int, lanes: Sequence[str] = LANES, **env: str
    ) -> Child:
        """The same, not waited for: several start faster together."""
        prefix = {**self.env, **env}.get("REINDEXER_PREFIX", "reindexer")
        command = worker_command(*options, pool=pool, concurrency=concurrency, prefix=prefix, lanes=lanes)
        return self._start("worker", command, env)

    def api(self, **env: str) -> tuple[Child, str]:
        """`uvicorn api.main:app`, and its URL."""
        port = free_port()
        child = self._start("api", api_command(port), env)
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(child, lambda: _answers(url), within_s=READY_S)
        return child, url

    def _start(self, name: str, command: list[str], env: Mapping[str, str]) -> Child:
        self._started += 1
        return self.begin(f"{name}-{self._started}", command, {**self.env, **env})

    def begin(self, name: str, command: list[str], env: Mapping[str, str]) -> Child:
        """Start a command."""
        return self.children.start(name, command, env=env, cwd=self.root)
