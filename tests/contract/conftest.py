"""An index over each transport, on the embedded server or on a given one, with a collection of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.ports import Collection
from reindexer.testing.indexes import OWNER, SIZE
from tests.support.servers import Servers

GIVEN = os.environ.get("REINDEXER_TEST_QDRANT_URL")
GRPC_PORT = int(os.environ.get("REINDEXER_TEST_QDRANT_GRPC_PORT", "6334") or 0)
"""0: the given server speaks no gRPC, as the embedded one."""


@pytest.fixture(
    params=[
        "rest",
        pytest.param("grpc", marks=pytest.mark.skipif(not (GIVEN and GRPC_PORT), reason="needs a real server")),
    ]
)
def index(request: pytest.FixtureRequest, servers: Servers) -> QdrantIndex:
    return QdrantIndex(
        servers.qdrant_url, api_key=None, grpc_port=GRPC_PORT if request.param == "grpc" else None, timeout_s=30
    )


@pytest.fixture
def client(servers: Servers) -> Iterator[QdrantClient]:
    client = QdrantClient(url=servers.qdrant_url, check_compatibility=False, timeout=30)
    yield client
    client.close()


@pytest.fixture
def collection(index: QdrantIndex, client: QdrantClient) -> Iterator[Collection]:
    alias = f"contract_{uuid.uuid4().hex[:12]}"
    collection = Collection(alias, f"{alias}__g1", alias)
    index.prepare(collection, SIZE, OWNER)
    yield collection
    client.delete_collection(collection.name)
