"""The servers and processes of a benchmark: embedded ones, or those given by REINDEXER_TEST_…_URL."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis
from psycopg.conninfo import make_conninfo
from qdrant_client import QdrantClient

from bench.provider import DIMENSIONS, Provider
from bench.texts import texts
from reindexer.embedded.children import Children, accepts, free_port, wait_until_ready
from reindexer.embedded.postgres import start_postgres
from reindexer.embedded.redis import start_redis
from reindexer.migrate import migrate
from reindexer.testing.processes import Processes
from reindexer.testing.servers import start_qdrant

ROOT = Path(__file__).parents[1]

SERVER = {"shared_buffers": "256MB", "max_wal_size": "4GB", "max_connections": "100"}
"""Settings of the embedded Postgres. It flushes to disk, as by default."""


class Unsound(Exception):
    """A benchmark's result is wrong: its figure does not count."""


def until(condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Wait until the condition holds. Raises Unsound with `otherwise`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise Unsound(f"{otherwise} within {within_s:.0f} s")
        time.sleep(0.1)


@dataclass(slots=True)
class Stage:
    """The addresses of the servers."""

    directory: Path
    admin_url: str
    redis_url: str
    qdrant_url: str
    provider: Provider
    children: Children
    _databases: list[str] = field(default_factory=list)

    @contextmanager
    def fresh(self) -> Iterator[Bench]:
        """A migrated database, an empty broker, no collections of ours; and processes that end with the context."""
        name = f"rx_bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())
            url = make_conninfo(self.admin_url, dbname=name)
            migrate(url, with_context_items=True)
            with redis.Redis.from_url(self.redis_url) as broker:
                broker.flushall()
            self._drop_collections()
            env = {
                "DATABASE_URL": url, "CELERY_BROKER_URL": self.redis_url, "QDRANT_URL": self.qdrant_url,
                "OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": self.provider.url,
                "REINDEXER_EMBEDDING_DIMENSIONS": str(DIMENSIONS), "REINDEXER_ADMIN_API_KEY": "bench",
            }  # fmt: skip
            with Children(self.directory / name) as children, psycopg.connect(url, autocommit=True) as db:
                yield Bench(self, url, env, db, Processes(children, env, ROOT))
                children.stop_together()
            self._drop_collections()
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def qdrant(self) -> QdrantClient:
        """An independent client."""
        return QdrantClient(url=self.qdrant_url, check_compatibility=False, timeout=60)

    def _drop_collections(self) -> None:
        client = self.qdrant()
        for each in client.get_collections().collections:
            if each.name.startswith("context_items"):
                client.delete_collection(each.name)
        client.close()


@dataclass(slots=True)
class Bench:
    """One benchmark's database and processes."""

    stage: Stage
    url: str
    env: dict[str, str]
    db: psycopg.Connection
    processes: Processes

    def fill(self, rows: int) -> None:
        """Write rows with real texts, as an application does."""
        with self.db.cursor() as cursor, cursor.copy("COPY context_items (title, content) FROM STDIN") as copy:
            for title, content in texts(rows):
                copy.write_row((title, content))

    def number(self, query: str, *params: object) -> int:
        """The one number that a query returns."""
        row = self.db.execute(query.encode(), params).fetchone()
        return int(row[0]) if row else 0

    def until_drained(self, within_s: float = 30.0) -> None:
        """Wait until the outbox is empty. Raises Unsound."""
        query = "SELECT count(*) FROM (SELECT FROM reindexer.outbox LIMIT 1) AS first"
        until(lambda: not self.number(query), within_s, "the outbox is not drained")

    def waits(self) -> int:
        """How many changes and items wait."""
        query = """
            SELECT (SELECT count(*) FROM reindexer.outbox) + (SELECT count(*) FROM reindexer.fan_out)
                 + (SELECT count(*) FROM reindexer.due) + (SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL)
        """
        return self.number(query)

    def require_all_indexed(self, client: QdrantClient | None = None) -> None:
        """Raises Unsound unless every row is COMPLETED and has its point."""
        query = """
            SELECT (SELECT count(*) FROM context_items),
                   (SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED' AND chunks > 0)
        """
        rows, done = self.db.execute(query).fetchone() or (0, 0)
        points = (client or self.stage.qdrant()).count("context_items__g1", exact=True).count
        if not rows == done == points:
            raise Unsound(f"{rows} rows, {done} completed, {points} points")


@contextmanager
def stage() -> Iterator[Stage]:
    """Start the servers that are not given; end them afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="rxbench-"))
    directory.chmod(0o755)
    try:
        with Children(directory / "logs") as children:
            given = os.environ.get
            admin = given("REINDEXER_TEST_DATABASE_URL")
            broker = given("REINDEXER_TEST_REDIS_URL")
            qdrant = given("REINDEXER_TEST_QDRANT_URL")
            port = free_port()
            child = children.start("provider", [sys.executable, "-m", "bench.provider", str(port)], cwd=ROOT)
            wait_until_ready(child, lambda: accepts(port), within_s=20)
            yield Stage(
                directory,
                admin or start_postgres(children, directory / "postgres", settings=SERVER).url(),
                broker or start_redis(children, directory).url(),
                qdrant or start_qdrant(children),
                Provider(port),
                children,
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
