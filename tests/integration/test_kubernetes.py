"""deploy/kubernetes, as far as it can be tried without a cluster: its processes run here with exactly their commands, their
environment and their probes. tests/unit/test_manifests.py looks at what the files say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from reindexer.embedded.children import Children, free_port
from reindexer.postgres.connect import connect
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from tests.support import manifests
from tests.support.index_reader import IndexReader
from tests.support.local_services import LocalServices

ONE_SHOT = "migrate"
LASTING = ("listener", "worker-live", "worker-bulk", "api")

SOURCES = """
[sources.notes]
table = "public.notes"
text = ["body"]
payload = ["body"]
"""


@pytest.fixture
def applied(empty_database: str, env: Mapping[str, str], index: IndexReader, tmp_path: Path) -> Iterator[LocalServices]:
    """`kubectl apply` without Kubernetes: `migrate` to its end, then all the others. A table has a row from before."""
    ours = ("QDRANT_URL", "OPENAI_BASE_URL", "REINDEXER_EMBEDDING_DIMENSIONS")
    configured = {**manifests.config(), **{name: env[name] for name in ours}}
    secret = {name: env[name] for name in ("CELERY_BROKER_URL", "REINDEXER_ADMIN_API_KEY", "OPENAI_API_KEY")}
    urls = [name for name in manifests.secret_keys() if name.endswith("_DATABASE_URL")]
    secret |= dict.fromkeys(urls, empty_database)
    services = {name: manifests.our_service(name, configured, secret) for name in (ONE_SHOT, *LASTING)}
    app = tmp_path / "app"
    app.mkdir()
    (app / "reindexer.toml").write_text(SOURCES, encoding="utf-8")
    with connect(empty_database, application_name="test") as sql:
        sql.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        sql.execute("INSERT INTO notes VALUES (1, 'a heron stands in the reeds')")
    with Children(tmp_path / "logs") as children:
        local = LocalServices(children, services, {}, free_port(), app)
        migrate = local.start(ONE_SHOT)
        assert migrate.process.wait(timeout=30) == 0, log_of(migrate)
        (app / "reindexer.toml").unlink()  # mounted for `migrate` alone
        for name in LASTING:
            local.start(name)
        yield local
        children.stop_together()


@pytest.mark.long
def test_what_is_applied_fills_the_index_finds_an_edit_and_passes_its_probes(
    applied: LocalServices, empty_database: str, env: Mapping[str, str]
) -> None:
    eventually(lambda: found(applied, env) == ["a heron stands in the reeds"], within=30, every=0.2)
    with connect(empty_database, application_name="test") as sql:
        sql.execute("UPDATE notes SET body = 'quarterly tax return'")
        eventually(lambda: found(applied, env) == ["quarterly tax return"], within=10, every=0.05)
    with ThreadPoolExecutor() as asking:  # each starts Python
        assert all(asking.map(partial(passes, applied), LASTING))
    for child in applied.running.values():
        assert "setting_ignored" not in log_of(child), "no variable is given that is no setting"


def passes(local: LocalServices, name: str) -> bool:
    """Ask as the kubelet would. The other probes are the same, or less (tests/unit/test_manifests.py)."""
    probe = manifests.container(name)["livenessProbe"]
    if "exec" in probe:
        command, timeout_s = probe["exec"]["command"], probe["timeoutSeconds"]
        eventually(lambda: local.succeeds(name, command, timeout_s), within=30, what=f"{name}: {command}")
        return True
    return httpx.get(f"http://127.0.0.1:{local.port}{probe['httpGet']['path']}").is_success


def found(local: LocalServices, env: Mapping[str, str]) -> list[str]:
    """What POST /search answers; nothing while it can't."""
    headers = {"X-API-Key": env["REINDEXER_ADMIN_API_KEY"]}
    body = {"source": "notes", "query": "quarterly tax return"}
    try:
        answer = httpx.post(f"http://127.0.0.1:{local.port}/search", json=body, headers=headers)
    except httpx.ConnectError:
        return []
    return [hit["payload"]["body"] for hit in answer.json()["hits"]] if answer.is_success else []
