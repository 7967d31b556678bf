"""Databases of every PostgreSQL version that can be had here, and folders that Postgres can use."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reindexer.embedded.children import Children
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.index_reader import IndexReader
from tests.support.rooms import room
from tests.support.servers import FAST, Servers, database_url, postgres_versions
from tests.support.shop import SHOP, Shop


def _versions() -> list[Any]:
    """The oldest and the newest; those between are what takes long."""
    oldest, *between, newest = sorted(postgres_versions())
    return [oldest, *(pytest.param(each, marks=pytest.mark.long) for each in between), newest]


@pytest.fixture(scope="session", params=_versions(), ids=lambda version: f"pg{version}")
def versioned_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """A server of each version, one after the other."""
    with room() as directory, Children(directory / "logs") as children:
        yield start_postgres(
            children,
            directory / "data",
            bin_directory=postgres_versions()[request.param],
            settings=FAST,
        )


@pytest.fixture
def empty_url(versioned_server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database without anything in it."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(versioned_server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield versioned_server.url(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The URL of a database that `migrate` has not seen."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield database_url(servers, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def migrated(empty_url: str) -> Iterator[Connection]:
    """A connection to a migrated database, of each version."""
    migrate(empty_url, with_context_items=True)
    with connect(empty_url, application_name="test") as connection:
        yield connection


@pytest.fixture
def shop(db: Connection, worker: Worker, index: IndexReader, here: Callable[..., Done], env: Mapping[str, str]) -> Shop:
    db.execute(SHOP.encode())
    return Shop(db, worker, IndexReader(index.client, "products"), lambda *arguments: here(*arguments, env=env))


@pytest.fixture
def directory() -> Iterator[Path]:
    """Outside pytest's own, which root closes to the user that Postgres runs as."""
    with room("of up") as path:
        yield path
