"""`reindexer listen`, `worker` and `api`: the three processes, as whoever installed a wheel starts them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from reindexer.embedded.children import Child, free_port
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from tests.support.commands import Done, reindexer
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

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


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("127.0.0.1", "port {} of 127.0.0.1 is taken; choose another with --port"),
        ("::1", "port {} of ::1 is taken; choose another with --port"),
        ("192.0.2.1", "can't listen at port {} of 192.0.2.1: Cannot assign requested address"),
        ("nowhere.invalid", "can't listen at port {} of nowhere.invalid: "),
    ],
)
def test_where_the_api_can_not_listen_is_one_line(
    here: Callable[..., Done], env: Mapping[str, str], host: str, line: str
) -> None:
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.create_server(("::1" if host == "::1" else "127.0.0.1", 0), family=family) as taken:
        port = taken.getsockname()[1]
        done = here("api", "--host", host, "--port", str(port), env=env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("reindexer: " + line.format(port))


@pytest.mark.parametrize(("command", "help_of"), [("worker", "celery worker"), ("api", "uvicorn")])
def test_an_option_that_the_program_behind_does_not_know_is_one_line(
    env: Mapping[str, str], command: str, help_of: str
) -> None:
    done = reindexer(command, "--nope", env=env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "No such option '--nope'" in done.stderr
    assert done.stderr.endswith(f"See `{help_of} --help`.\n")
