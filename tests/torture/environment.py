"""The stage: the servers, a fault-injecting proxy before each, and the environment of our processes.

Servers that are given (REINDEXER_TEST_…) can't be killed; the faults that kill them are left out then.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg.conninfo import make_conninfo
from qdrant_client import QdrantClient

from reindexer.budgets import set_budget
from reindexer.embedded.children import Child, Children, free_port
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.embedded.redis import EmbeddedRedis, start_redis
from reindexer.migrate import migrate
from reindexer.postgres.connect import connect
from reindexer.testing.provider import DIMENSIONS, FakeProvider
from reindexer.testing.proxy import Proxy
from reindexer.testing.servers import start_qdrant_at
from tests.support.collector import Collector, collecting
from tests.torture import tables
from tests.torture.checker import SOURCES
from tests.torture.models import PLENTY, PRICES, PROFILES
from tests.torture.provider_faults import Lies

LEASE_S = 4.0
RECOVERED_WITHIN_S = 30.0
DURABLE = {"fsync": "on", "max_connections": "200", "shared_buffers": "64MB"}
API_KEY = "torture-key"


@dataclass(slots=True)
class Stage:
    """Where everything is: the servers themselves, and their proxies by name."""

    directory: Path
    children: Children
    database_url: str
    redis_url: str
    qdrant_url: str
    grpc_port: int | None
    provider: FakeProvider
    lies: Lies
    collector: Collector
    proxies: dict[str, list[Proxy]]
    postgres: EmbeddedPostgres | None = None
    redis: EmbeddedRedis | None = None
    qdrant: Child | None = None
    env: dict[str, str] = field(default_factory=dict)

    def client(self) -> QdrantClient:
        """The official client, straight to the server."""
        return QdrantClient(url=self.qdrant_url, check_compatibility=False, timeout=30)

    def connect(self) -> psycopg.Connection:
        """A connection straight to the database, when it has recovered from what was done to it."""
        until = time.monotonic() + RECOVERED_WITHIN_S
        while True:
            try:
                return psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)

    def flush_redis(self) -> None:
        """All messages, results and bindings are gone."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()

    def stop_postgres(self) -> None:
        """At once: what was not flushed to disk is lost, connections break."""
        assert self.postgres is not None
        self.postgres.child.process.send_signal(signal.SIGQUIT)
        self.postgres.child.process.wait(20)
        self.children.kill(self.postgres.child)

    def start_postgres(self) -> None:
        """Recovers from its log."""
        assert self.postgres is not None
        data, port = self.directory / "postgres", self.postgres.port
        self.postgres = start_postgres(self.children, data, port=port, settings=DURABLE)

    def kill_backend(self) -> None:
        """SIGKILL to one of our connections' backends: the server ends all others and recovers from its log."""
        assert self.postgres is not None
        with self.connect() as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'reindexer %' ORDER BY random() LIMIT 1"
            ).fetchone()
        if row:
            os.kill(row[0], signal.SIGKILL)

    def every_source_has_its_model(self) -> bool:
        """A worker has made, or was about to make, points of each; false where Postgres does not answer."""
        try:
            with psycopg.connect(self.database_url, connect_timeout=5) as connection:
                return not connection.execute("SELECT FROM reindexer.source WHERE embedder IS NULL").fetchall()
        except psycopg.Error:
            return False

    def stop_redis(self) -> None:
        """Nothing of it is on disk."""
        assert self.redis is not None
        self.children.kill(self.redis.child)

    def start_redis(self) -> None:
        """Empty, on the same port."""
        assert self.redis is not None
        self.redis = start_redis(self.children, self.directory, port=self.redis.port)

    def stop_qdrant(self) -> None:
        """What it has acknowledged lies in its folder."""
        assert self.qdrant is not None
        self.children.kill(self.qdrant)

    def start_qdrant(self) -> None:
        """On the same port and folder."""
        self.qdrant = start_qdrant_at(self.children, urlsplit(self.qdrant_url).port or 6333, self.directory / "qdrant")


@contextmanager
def stage() -> Iterator[Stage]:
    """Start what is not given; end it afterwards. The directory, with all logs, is left to the caller."""
    directory = Path(tempfile.mkdtemp(prefix="rxtorture-"))
    directory.chmod(0o755)
    with ExitStack() as stack:
        children = stack.enter_context(Children(directory / "logs"))
        postgres, database_url = _postgres(stack, children, directory)
        own_redis, redis_url = _redis(children, directory)
        qdrant, qdrant_url = _qdrant(children, directory)
        grpc_port = os.environ.get("REINDEXER_TEST_QDRANT_GRPC_PORT")
        provider = FakeProvider()
        stack.callback(provider.close)
        provider.latency_s = 0.02
        collector = stack.enter_context(collecting())
        urls = {
            "provider": [provider.url], "postgres": [database_url], "redis": [redis_url], "qdrant": [qdrant_url],
            "collector": [collector.url],
        }  # fmt: skip
        if grpc_port:
            urls["qdrant"].append(f"http://{urlsplit(qdrant_url).hostname}:{grpc_port}")
        proxies = {name: [stack.enter_context(Proxy.before(url)) for url in each] for name, each in urls.items()}
        built = Stage(
            directory, children, database_url, redis_url, qdrant_url, int(grpc_port) if grpc_port else None,
            provider, Lies(provider), collector, proxies, postgres, own_redis, qdrant,
        )  # fmt: skip
        _clean(built)
        migrate(database_url, with_context_items=True)
        tables.make(database_url)
        built.env = _environment(built)
        (directory / "profiles.toml").write_text(PROFILES, encoding="utf-8")
        (directory / "prices.toml").write_text(PRICES, encoding="utf-8")
        with connect(database_url, application_name="torture") as connection:
            set_budget(connection, who="torture", kind="indexing", period="day", usd=PLENTY, stops_edits=True)
        yield built


def _postgres(stack: ExitStack, children: Children, directory: Path) -> tuple[EmbeddedPostgres | None, str]:
    given = os.environ.get("REINDEXER_TEST_DATABASE_URL")
    if not given:
        server = start_postgres(children, directory / "postgres", settings=DURABLE)
        return server, server.url()
    name = f"rx_torture_{uuid.uuid4().hex[:8]}"
    admin = stack.enter_context(psycopg.connect(given, autocommit=True))
    admin.execute(f"CREATE DATABASE {name}".encode())
    stack.callback(admin.execute, f"DROP DATABASE {name} WITH (FORCE)".encode())
    parts = urlsplit(given)
    return None, parts._replace(path=f"/{name}").geturl() if parts.scheme else make_conninfo(given, dbname=name)


def _redis(children: Children, directory: Path) -> tuple[EmbeddedRedis | None, str]:
    if given := os.environ.get("REINDEXER_TEST_REDIS_URL"):
        return None, given
    server = start_redis(children, directory)
    return server, server.url()


def _qdrant(children: Children, directory: Path) -> tuple[Child | None, str]:
    if given := os.environ.get("REINDEXER_TEST_QDRANT_URL"):
        return None, given
    port = free_port()
    return start_qdrant_at(children, port, directory / "qdrant"), f"http://127.0.0.1:{port}"


def _clean(built: Stage) -> None:
    built.flush_redis()
    client = built.client()
    for each in client.get_collections().collections:
        if each.name.startswith(SOURCES):
            client.delete_collection(each.name)
    client.close()


def _environment(built: Stage) -> dict[str, str]:
    """Of our processes: every server through its proxy, every wait short enough to heal within the minute."""
    database, broker, qdrant, provider = (
        built.proxies[name][0].instead(url)
        for name, url in (
            ("postgres", built.database_url),
            ("redis", built.redis_url),
            ("qdrant", built.qdrant_url),
            ("provider", built.provider.url),
        )
    )
    return {
        **os.environ,
        **built.collector.env,
        "OTEL_EXPORTER_OTLP_ENDPOINT": built.proxies["collector"][0].instead(built.collector.url),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database,
        "CELERY_BROKER_URL": broker,
        "QDRANT_URL": qdrant,
        "OPENAI_API_KEY": "sk-torture",
        "OPENAI_BASE_URL": provider,
        "REINDEXER_ADMIN_API_KEY": API_KEY,
        "REINDEXER_EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "REINDEXER_EMBEDDING_TIMEOUT_S": "1.5",
        "REINDEXER_QDRANT_TIMEOUT_S": "1",
        "REINDEXER_LEASE_S": str(LEASE_S),
        "REINDEXER_BATCH_SIZE": "64",
        "REINDEXER_RETRY_BASE_S": "0.1",
        "REINDEXER_RETRY_MAX_S": "1",
        "REINDEXER_RETRY_SCHEDULE_S": "1",
        "REINDEXER_EVENTS_TIMEOUT_S": "1",
        "REINDEXER_EVENTS_RETRY_MAX_S": "2",
        "REINDEXER_PRICES": str(built.directory / "prices.toml"),
    }


def grpc_environment(built: Stage) -> Mapping[str, str]:
    """What a worker needs beside `env` to speak gRPC with Qdrant; empty where no port is given."""
    if built.grpc_port is None:
        return {}
    return {"REINDEXER_QDRANT_GRPC": "1", "REINDEXER_QDRANT_GRPC_PORT": str(built.proxies["qdrant"][1].port)}


def remove(directory: Path) -> None:
    """Data and logs of a run."""
    shutil.rmtree(directory, ignore_errors=True)
