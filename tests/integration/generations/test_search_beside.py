"""A search of another generation than the one that searches use, to compare them before they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer import api_keys
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.generations import NAME, made, settle


@pytest.fixture
def client(settings: Settings, db: Connection, worker: Worker) -> Iterator[TestClient]:
    """Three rows in generation 1, and in generation 2 by another number of dimensions."""
    for n in range(3):
        insert(db, f"tea number {n}")
    settle(db, worker)
    made(db, settings, worker)
    settle(db, worker)
    with TestClient(create_app(settings)) as client:
        yield client


def search(client: TestClient, key: str, **more: Any) -> Any:
    body = {"source": NAME, "query": "tea number 1", "text": True, **more}
    return client.post("/search", json=body, headers={"X-API-Key": key})


def test_an_administrator_searches_another_generation_and_nobody_else_does(
    client: TestClient, db: Connection, provider: FakeProvider
) -> None:
    keys = {role: api_keys.create(db, role, who="test", role=role).key for role in ("search", "admin")}
    found = search(client, keys["admin"]).json()["hits"]
    provider.calls.clear()
    others = search(client, keys["admin"], generation=2).json()["hits"]
    assert [call.body["dimensions"] for call in provider.calls] == [16]
    assert (found[0]["text"], others[0]["text"]) == ("tea number 1", "tea number 1")
    assert len(found) == len(others) == 3
    assert [hit["score"] for hit in found[1:]] != [hit["score"] for hit in others[1:]]
    refused = search(client, keys["search"], generation=2)
    assert refused.status_code == 403
    assert "all searches use" in refused.json()["detail"]
    assert search(client, keys["search"], generation=1).status_code == 403
    assert search(client, keys["admin"], generation=7).status_code == 409


def test_a_generation_is_one_of_one_source(client: TestClient) -> None:
    body = {"sources": [NAME], "query": "tea", "generation": 1}
    assert client.post("/search", json=body, headers={"X-API-Key": "test-admin-key"}).status_code == 422
