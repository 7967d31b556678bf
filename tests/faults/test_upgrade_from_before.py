"""An upgrade of the version before, its wheel built from its commit: beside writers, with work in every place.

The older program lies in an environment of its own, with the libraries of this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
import uuid
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from reindexer.embedded.children import Child, Children, free_port, wait_until_ready
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.schema import REVISION
from reindexer.testing.processes import log_of, worker_command
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from tests.support.comparison import differences
from tests.support.flow import idle
from tests.support.index_reader import IndexReader
from tests.support.old_tables import TABLE
from tests.support.processes import ROOT, Processes
from tests.support.servers import Servers, database_url

BEFORE = "f7a0fe0f02529642beeccea72caf29f81b47d8a1"
"""The commit of the version before."""

KEY = {"Authorization": "Bearer test-admin-key"}


@dataclass(frozen=True)
class Older:
    """The version before, as it is installed from its wheel."""

    python: str
    env: Mapping[str, str]
    children: Children
    folder: Path

    def run(self, *arguments: str) -> str:
        command = [self.python, *arguments]
        done = subprocess.run(command, env=self.env, cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    def start(self, name: str, *arguments: str, says: str) -> Child:
        child = self.children.start(name, [self.python, *arguments], env=self.env, cwd=self.folder)
        wait_until_ready(child, lambda: says in log_of(child), within_s=60)
        return child


@pytest.fixture(scope="session")
def older_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the older wheel. Skips where there is no git history."""
    folder = tmp_path_factory.mktemp("older")
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no git history with {BEFORE[:7]} here")
    (folder / "source").mkdir()
    subprocess.run(["tar", "-x"], cwd=folder / "source", input=archive.stdout, check=True)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=folder / "source", check=True, capture_output=True)
    venv.create(folder / "venv", symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("*.whl")
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    # The libraries, but not this checkout: no .pth file of theirs is read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return str(python)


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """A database with two tables of the user's."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        with psycopg.connect(database_url(servers, name), autocommit=True) as db:
            db.execute(TABLE)
            db.execute("INSERT INTO context_items (content) SELECT 'settled ' || n FROM generate_series(1, 60) n")
            db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text, kind text, shown boolean)")
            db.execute("INSERT INTO notes SELECT n, 'note ' || n, 'a', n > 5 FROM generate_series(1, 20) n")
        yield database_url(servers, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def older(older_python: str, env: Mapping[str, str], tmp_path: Path) -> Iterator[Older]:
    settings = {**os.environ, **env, "REINDEXER_EMBEDDER": "openai", "PYTHONUNBUFFERED": "1"}
    settings.pop("PYTHONPATH", None)
    with Children(tmp_path / "older-logs") as children:
        (tmp_path / "elsewhere").mkdir()
        yield Older(older_python, settings, children, tmp_path / "elsewhere")
        children.stop_together()


class Writer:
    """Inserts rows until it is told to stop; remembers its errors."""

    def __init__(self, url: str) -> None:
        self._url, self._stop, self.errors, self.written = url, threading.Event(), list[str](), 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with connect(self._url, application_name="writer") as db:
            while not self._stop.wait(0.02):
                try:
                    db.execute("INSERT INTO context_items (content) VALUES (%s)", [f"meanwhile {self.written}"])
                    self.written += 1
                except psycopg.Error as exc:
                    self.errors.append(str(exc))


def older_idle(db: Connection) -> bool:
    """As `idle`, in a database that has no table of related changes yet."""
    row = db.execute(
        "SELECT (SELECT count(*) FROM reindexer.outbox) + (SELECT count(*) FROM reindexer.due)"
        " + (SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL)"
    ).fetchone()
    return row == (0,)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_stack_of_the_version_before_is_upgraded_beside_writers_and_nothing_is_lost_or_embedded_anew(
    older: Older, database: str, redis_url: str, index: IndexReader, provider: FakeProvider, tmp_path: Path,
    env: Mapping[str, str],
) -> None:  # fmt: skip
    reindexer = ("-m", "reindexer")
    older.run(*reindexer, "migrate")
    older.run(
        *reindexer, "attach", "notes", "--table", "notes", "--text", "body", "--payload", "kind", "--where", "shown",
        "--template", "Note: {body}", "--chunk-tokens", "200", "--chunk-overlap", "20",
    )  # fmt: skip
    listener = older.start("listener", "-m", "reindexer.listen", says="leading")
    worker = older.start("worker", *worker_command(pool="prefork", concurrency=2)[1:], says=" ready.")
    port = free_port()
    older.start("api", "-m", "uvicorn", "api.main:app", "--port", str(port), says="running on")
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers=KEY, timeout=20) as api, connect(database, application_name="test") as db:
        eventually(lambda: older_idle(db), within=60)
        assert differences(db, index) == []
        assert older.children.stop(worker) == 0
        embedded = len(provider.inputs)
        assert embedded == 60 + 15

        # Due items, and reindex requests as messages.
        db.execute("UPDATE context_items SET content = content || ', edited' WHERE content LIKE 'settled _'")
        db.execute("DELETE FROM context_items WHERE content = 'settled 60'")
        db.execute("UPDATE notes SET body = body || ', edited' WHERE id = 20")
        row = db.execute("SELECT array_agg(id::text) FROM context_items WHERE content LIKE 'settled 1_'").fetchone()
        assert row is not None
        asked = api.post("/admin/bulk/regenerate-embeddings", json={"context_ids": row[0]}).json()
        assert asked["queued_count"] == 10
        eventually(lambda: db.execute("SELECT count(*) >= 21 FROM reindexer.due").fetchone() == (True,), within=10)
        with redis.Redis.from_url(redis_url) as queues:
            eventually(lambda: queues.llen("reindexer.live") and queues.llen("reindexer.bulk"), within=10)

        with Writer(database) as writer:
            eventually(lambda: writer.written > 10)
            today = [sys.executable, "-m", "reindexer", "migrate"]
            subprocess.run(today, cwd=ROOT, env={**os.environ, **env}, check=True, capture_output=True)
            after = writer.written
            eventually(lambda: writer.written > after + 10)
        assert writer.errors == []
        assert db.execute("SELECT version_num FROM reindexer.alembic_version").fetchone() == (REVISION,)
        # The older API goes on answering searches until it is restarted.
        search = {"source": "notes", "query": "Note: note 7", "limit": 1}
        found = api.post("/search", json=search)
        assert (found.status_code, found.json()["hits"][0]["item_id"]) == (200, "7")
        assert listener.process.wait(30) == 2
        assert "Traceback" not in log_of(listener)
        assert len(provider.inputs) == embedded + 1, "nothing but the search's query"

        with Children(tmp_path / "today-logs") as children:
            processes = Processes(children, env)
            processes.listener()
            processes.worker()
            eventually(lambda: idle(db), within=60)
            eventually(lambda: db.execute("SELECT count(*) FROM reindexer.request WHERE succeeded").fetchone() == (10,))
            children.stop_together()
        assert differences(db, index) == []
        notes = "SELECT id::text, 'Note: ' || body FROM notes WHERE shown"
        assert differences(db, IndexReader(index.client, "notes"), notes) == []
        assert len(provider.inputs) == embedded + 1 + 9 + 1 + 10 + writer.written, "edits, requests and new rows, once"
