"""What this project asks of Qdrant, asked through the official client.

Runs on the embedded server, and on a real one instead where REINDEXER_TEST_QDRANT_URL names it.
"""

import uuid
from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from tests.contract.embedded_qdrant.points import NewName
from tests.support.qdrant_process import REAL_URL, Process, connect


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if REAL_URL is not None:
        yield REAL_URL
        return
    with Process("--memory") as server:
        yield server.url
        assert server.end() == (0, "", "")


@pytest.fixture
def client(url: str) -> Iterator[QdrantClient]:
    client = connect(url)
    yield client
    client.close()


@pytest.fixture
def new_name(client: QdrantClient) -> Iterator[NewName]:
    """Names nobody else uses; what has them afterwards is deleted."""
    names: list[str] = []

    def make() -> str:
        names.append(f"test_{uuid.uuid4().hex}")
        return names[-1]

    yield make
    for name in names:
        client.delete_collection(name)


@pytest.fixture
def collection(client: QdrantClient, new_name: NewName) -> str:
    name = new_name()
    client.create_collection(name, vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))
    return name
