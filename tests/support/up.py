"""A running `reindexer up`: what it said, whom it started, and what it finds."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg

from reindexer.embedded.children import free_port
from reindexer.testing.waiting import eventually
from tests.support.commands import CLEAN
from tests.support.processes import ROOT

PROGRAM = Path(sys.executable).with_name("reindexer")


@dataclass
class Up:
    """A running `up`."""

    process: subprocess.Popen[str]
    directory: Path
    port: int

    @property
    def log(self) -> str:
        return (self.directory / "up.out").read_text(encoding="utf-8")

    def family(self) -> list[psutil.Process]:
        """Everything it started, and itself."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def wait_until_up(self) -> None:
        eventually(lambda: "data, logs" in self.log or self.process.poll() is not None, within=120)
        assert self.process.poll() is None, self.log

    @property
    def database_url(self) -> str:
        found = re.search(r'psql "([^"]+)"', self.log)
        assert found
        return found.group(1)

    def insert(self, text: str) -> bool:
        """False while Postgres is not there."""
        try:
            with psycopg.connect(self.database_url, autocommit=True) as connection:
                connection.execute("INSERT INTO context_items (content) VALUES (%s)", [text])
        except psycopg.Error:
            return False
        return True

    def finds(self, text: str) -> bool:
        """True if the search's best hit has all the words."""
        key = (self.directory / "admin.key").read_text(encoding="utf-8").strip()
        body = {"source": "context_items", "query": text, "limit": 1}
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{self.port}/search", json=body, headers={"X-API-Key": key}, timeout=10
            )
        except httpx.HTTPError:
            return False
        return answer.is_success and any(hit["score"] > 0.99 for hit in answer.json()["hits"])


def start(directory: Path, port: int | None = None, options: Sequence[str] = (), cwd: Path = ROOT, /, **env: str) -> Up:
    """Starts one over a folder, on that port or a free one, and does not wait for it."""
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "up.out").open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [str(PROGRAM), "up", "--data-dir", str(directory), "--port", str(port), *options],
            env={**CLEAN, **env}, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    return Up(process, directory, port)


@contextmanager
def running(directory: Path, /, **env: str) -> Iterator[Up]:
    """One over a folder, from when it is up until its end."""
    up = start(directory, **env)
    up.wait_until_up()
    try:
        yield up
    finally:
        up.process.terminate()
        up.process.wait(40)


def fill(directory: Path, text: str, /, **env: str) -> None:
    """One over a folder that indexes a text, and ends."""
    with running(directory, **env) as up:
        assert up.insert(text)
        eventually(lambda: up.finds(text), within=30)


def gone(family: list[psutil.Process]) -> bool:
    """Whether none of these processes runs."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)
