"""`reindexer listen`, `worker` and `api`: the three processes, as whoever installed a wheel starts them."""

from __future__ import annotations

import sys
from pathlib import Path
from signal import SIGTERM

import httpx

from reindexer.embedded.children import Child, free_port
from reindexer.postgres.connect import Connection
from tests.integration.test_drain_to_settle import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes, log_of
from tests.support.provider import vector_of
from tests.support.waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("reindexer"))


def test_the_three_commands_do_what_the_three_processes_do_where_the_users_project_has_packages_of_their_names(
    db: Connection, processes: Processes, index: IndexReader, tmp_path: Path
) -> None:
    for name in ("api", "celery", "migrations", "reindexer"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text("raise SystemExit('the project was imported')\n")

    def start(*arguments: str) -> Child:
        return processes.children.start(
            arguments[0], [PROGRAM, *arguments], env=processes.env, cwd=tmp_path / "project"
        )

    port = free_port()
    listener, worker, api = start("listen"), start("worker", "-c", "1"), start("api", "--port", str(port))
    item_id = insert(db, "text")
    eventually(lambda: index.holds(item_id, vector_of("text")), within=40)

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
        except httpx.ConnectError:
            return False

    eventually(is_ready, within=20)
    for child in (listener, worker, api):
        assert "the project was imported" not in log_of(child)
        assert processes.children.stop(child) == (0 if child is not api else -SIGTERM)  # uvicorn ends by its signal
