"""Fixtures of the tests of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.proxy import Proxy
from reindexer.worker.worker import Worker
from tests.support.flow import Flow
from tests.support.index_reader import IndexReader
from tests.support.servers import Servers


@pytest.fixture
def flow(db: Connection, worker: Worker, index: IndexReader) -> Flow:
    return Flow(db, worker)


@pytest.fixture
def readyz(settings: Settings) -> Iterator[Callable[..., str]]:
    """What /readyz says of the triggers, or of something else."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield lambda check="triggers": str(client.get("/readyz").json()["checks"][check])


@pytest.fixture
def readyz_source(settings: Settings) -> Iterator[Callable[[], str]]:
    """What /readyz says of the sources."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield lambda: str(client.get("/readyz").json()["checks"]["sources"])


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    """Stands before Qdrant; the tests' own reader does not go through it."""
    with Proxy.before(servers.qdrant_url) as running:
        yield running
