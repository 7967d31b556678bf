"""What a rebuild costs, as the API tells it before it is asked for one."""

from __future__ import annotations

from fastapi.testclient import TestClient

from api.main import create_app
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.generations import NAME, settle

KEY = {"X-API-Key": "test-admin-key"}


def test_the_cost_of_a_rebuild_is_the_plans_and_only_told_if_it_is_asked_for(
    settings: Settings, db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    for n in range(30):
        insert(db, f"tea number {n}")
    settle(db, worker)
    provider.calls.clear()
    with TestClient(create_app(settings)) as client:
        path = f"/admin/sources/{NAME}/cost"
        assert client.get(path, headers=KEY).json()["rebuild"] is None
        told = client.get(f"{path}?rebuild=true", headers=KEY).json()
        assert client.get("/admin/sources/none/cost?rebuild=true", headers=KEY).status_code == 404
    planned = told["rebuild"]
    assert (planned["rows"], planned["is_estimate"]) == (30, False)
    assert planned["items"] == {"low": 0, "high": 0}  # it takes the vectors that are there
    assert (told["rows"], told["tokens"] > 0) == (30, True)
    assert 0 < planned["disk"]["low"] <= planned["disk"]["high"]
    assert planned["standby"]["hours"] == settings.standby_for_s / 3600
    assert provider.calls == []
    assert db.execute("SELECT count(*) FROM reindexer.generation").fetchone() == (1,)
