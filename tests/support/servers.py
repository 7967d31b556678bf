"""Real Postgres, Redis and Qdrant for the tests: our own from the `embedded` extra, given ones, or containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from reindexer.embedded.children import Children
from reindexer.embedded.postgres import start_postgres, wheel_binaries
from reindexer.embedded.redis import start_redis
from reindexer.running_stack import reach_own_servers
from reindexer.testing.servers import start_qdrant
from tests.support.rooms import room

FAST = {"fsync": "off", "max_connections": "200", "shared_buffers": "64MB", "wal_level": "logical"}
"""The tests kill processes, not machines."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are."""

    database_url: str
    """Of a database in which others can be made."""
    redis_url: str
    qdrant_url: str


@contextmanager
def servers() -> Iterator[Servers]:
    """Start what is not given by REINDEXER_TEST_DATABASE_URL, …_REDIS_URL, …_QDRANT_URL; end it afterwards."""
    reach_own_servers(postgres="REINDEXER_TEST_DATABASE_URL" not in os.environ)
    with ExitStack() as stack:
        if os.environ.get("REINDEXER_TEST_STACK") == "containers":
            from tests.support.containers import containers

            yield stack.enter_context(containers())
            return
        directory = stack.enter_context(room())
        children = stack.enter_context(Children(directory / "logs"))
        database_url = os.environ.get("REINDEXER_TEST_DATABASE_URL")
        redis_url = os.environ.get("REINDEXER_TEST_REDIS_URL")
        qdrant_url = os.environ.get("REINDEXER_TEST_QDRANT_URL")
        yield Servers(
            database_url or start_postgres(children, directory / "postgres", settings=FAST).url(),
            redis_url or start_redis(children, directory).url(),
            qdrant_url or start_qdrant(children),
        )


def postgres_versions() -> dict[int, Path]:
    """Binaries of every PostgreSQL that can be had here: two in the wheel, and what the machine has installed."""
    found = {version: wheel_binaries(version) for version in (16, 18)}
    for installed in Path("/usr/lib/postgresql").glob("*/bin/postgres"):
        found.setdefault(int(installed.parent.parent.name), installed.parent)
    return found


def database_url(running: Servers, database: str) -> str:
    """The URL of another database on the same server."""
    return psycopg.conninfo.make_conninfo(running.database_url, dbname=database)
