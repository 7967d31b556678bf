"""`reindexer up` and `down`: each end of it is defined and told, and no process is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from reindexer.embedded.children import free_port
from reindexer.testing.waiting import eventually
from tests.support.commands import reindexer
from tests.support.rooms import room
from tests.support.up import Up, gone, start


@dataclass
class Kept:
    """A folder of data, and the `up` over it that was started last."""

    directory: Path
    last: Up | None = None

    def up(self) -> Up:
        """The one that runs, or a new one."""
        if self.last is None or self.last.process.poll() is not None:
            self.last = start(self.directory)
            self.last.wait_until_up()
        return self.last


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """Of this module: a start costs as much CPU as the rest of a test. It ends by SIGTERM."""
    with room("of up") as directory:
        kept = Kept(directory)
        yield kept
        if kept.last is not None and kept.last.process.poll() is None:
            family = kept.last.family()
            kept.last.process.terminate()
            assert kept.last.process.wait(60) == 0
            assert gone(family)


@pytest.fixture
def running(kept: Kept) -> Up:
    return kept.up()


def test_up_serves_finds_edits_is_found_by_other_commands_and_ends_by_ctrl_c(running: Up) -> None:
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO context_items (content) VALUES ('wombats dig burrows')")
    data = {"REINDEXER_DATA_DIR": str(running.directory)}

    def best() -> float:
        done = reindexer("search", "context_items", "wombats dig burrows", "--json", env=data)
        return max([hit["score"] for hit in json.loads(done.stdout)["hits"]], default=0)

    eventually(lambda: best() > 0.99, within=20)
    assert json.loads(reindexer("status", "--json", env=data).stdout)["completed"] >= 1
    key = (running.directory / "admin.key").read_text(encoding="utf-8").strip()
    assert (running.directory / "admin.key").stat().st_mode & 0o777 == 0o600
    answer = httpx.get(f"http://127.0.0.1:{running.port}/admin/status", headers={"X-API-Key": key})
    assert answer.json()["listener"] in ("awake", "asleep")
    family = running.family()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(40) == 0
    assert "ended; the data is kept" in running.log
    assert gone(family)


@pytest.mark.long
def test_commands_find_what_runs_where_the_environment_names_its_database_or_other_servers(running: Up) -> None:
    data = {"REINDEXER_DATA_DIR": str(running.directory)}
    named = {"DATABASE_URL": running.database_url.replace("127.0.0.1", "localhost")}
    for env in ({**data, **named}, {**data, **OTHERS}):
        done = reindexer("search", "context_items", "anything", "--json", env=env)
        assert (done.returncode, done.stderr) == (0, "")
    elsewhere = {**data, "DATABASE_URL": "postgresql://127.0.0.1:1/elsewhere"}
    assert "127.0.0.1:1/elsewhere does not answer" in reindexer("status", env=elsewhere).stderr


OTHERS = {
    "PGSSLMODE": "require", "PGSERVICE": "prod", "PGHOSTADDR": "192.0.2.1", "PGREQUIREAUTH": "scram-sha-256",
    "PGOPTIONS": "-c default_transaction_read_only=on", "PGDATESTYLE": "German", "PGTZ": "Asia/Kathmandu",
    "PGCLIENTENCODING": "LATIN1", "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}  # fmt: skip
"""What a shell may hold for other servers."""


@pytest.mark.long
@pytest.mark.timeout(240)
def test_up_starts_whatever_shell_and_folder_hold_for_others_on_the_ports_that_are_asked_for_and_then_on_those_again(
    directory: Path,
) -> None:
    """Variables that lead to other servers, and modules called as those that we import."""
    wanted = {server: free_port() for server in ("postgres", "redis", "qdrant")}
    options = [word for server, port in wanted.items() for word in (f"--{server}-port", str(port))]
    project = directory / "project"
    for module in ("api/__init__.py", "celery.py", "redis.py", "tasks.py", "settings.py", "types.py"):
        (project / module).parent.mkdir(parents=True, exist_ok=True)
        (project / module).write_text(f"raise RuntimeError('{module} is somebody else\\'s')\n", encoding="utf-8")
    running = start(directory, None, options, project, **OTHERS)
    running.wait_until_up()
    try:
        assert "env -u PGCLIENTENCODING -u PGDATESTYLE" in running.log
        assert f"@127.0.0.1:{wanted['postgres']}/" in running.database_url
        assert f"http://127.0.0.1:{wanted['qdrant']}" in running.log
        assert running.insert("wombats")
        eventually(lambda: running.finds("wombats"), within=20)
        taken = ["--data-dir", str(directory / "other"), "--qdrant-port", str(wanted["qdrant"])]
        assert reindexer("up", *taken, "--port", str(free_port())).stderr == (
            f"reindexer: port {wanted['qdrant']} of 127.0.0.1 is taken; choose another with --qdrant-port\n"
        )
    finally:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(40)
    again = start(directory)
    again.wait_until_up()
    try:
        assert again.database_url == running.database_url
        assert f"http://127.0.0.1:{wanted['qdrant']}" in again.log
    finally:
        again.process.send_signal(signal.SIGTERM)
        again.process.wait(40)


@pytest.mark.long
def test_data_is_kept_over_down_and_up(running: Up, kept: Kept) -> None:
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO context_items (content) VALUES ('kept')")
    family = running.family()
    assert reindexer("down", "--data-dir", str(running.directory)).returncode == 0
    running.process.wait(10)
    assert gone(family)
    again = reindexer("down", "--data-dir", str(running.directory))
    assert (again.returncode, again.stderr.strip()) == (
        1,
        f"reindexer: nothing is up with the data in {running.directory}",
    )
    with psycopg.connect(kept.up().database_url) as connection:
        assert ("kept",) in connection.execute("SELECT content FROM context_items").fetchall()


@pytest.mark.long
def test_sigkill_of_the_supervisor_leaves_no_process_and_the_next_up_works(running: Up, kept: Kept) -> None:
    family = running.family()
    running.process.kill()
    running.process.wait()
    eventually(lambda: gone(family), within=20)
    text = "after the supervisor was killed"
    second = kept.up()
    assert second.insert(text)
    eventually(lambda: second.finds(text), within=20)


@pytest.mark.timeout(240)
@pytest.mark.long
def test_a_child_that_crashes_is_started_again_and_edits_still_arrive(running: Up) -> None:
    marks = {"listener": "listen", "worker": "worker", "api": "api", "redis": "valkey-server", "qdrant": "qdrant_server", "postgres": "postgres"}  # fmt: skip
    for part, mark in marks.items():
        _crash_and_edit(running, part, mark)


def _crash_and_edit(running: Up, part: str, mark: str) -> None:
    own = psutil.Process(running.process.pid)
    is_it = re.compile(rf"(^|[ /.]){mark}( |$)")
    next(each for each in own.children() if is_it.search(" ".join(each.cmdline()))).kill()
    eventually(lambda: f"{part} ended" in running.log, within=20)
    text = f"after the crash of {part}"
    eventually(lambda: running.insert(text), within=20)
    eventually(lambda: running.finds(text), within=75, every=0.1)


@pytest.mark.long
def test_a_second_up_and_a_taken_port_are_one_line(running: Up, tmp_path: Path) -> None:
    second = reindexer("up", "--data-dir", str(running.directory), "--port", str(free_port()))
    assert second.returncode == 1
    assert "it is up already (pid" in second.stderr
    third = reindexer("up", "--data-dir", str(tmp_path / "other"), "--port", str(running.port))
    assert third.returncode == 1
    assert third.stderr.strip() == f"reindexer: port {running.port} of 127.0.0.1 is taken; choose another with --port"


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can only be mounted by root")
def test_a_full_disk_is_told(directory: Path) -> None:
    mounted = directory / "small"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(mounted)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        done = reindexer("up", "--data-dir", str(mounted / "data"), "--port", str(free_port()))
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)
    assert done.returncode == 1
    assert re.search(r"the disk of .* is full: \d+ MB are free", done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.long
@pytest.mark.timeout(180)
def test_up_starts_no_server_that_is_named_begins_with_the_sources_file_and_goes_on_where_its_tables_are_still_to_be_made(
    directory: Path, env: Mapping[str, str]
) -> None:
    named = {name: env[name] for name in ("DATABASE_URL", "CELERY_BROKER_URL", "QDRANT_URL")}
    file = directory / "my [sources].toml"
    file.write_text(
        "[sources.notes]\ntable = 'notes'\ntext = 'txet'\n[sources.things]\ntable = 'things'\ntext = 'name'"
    )
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE things (id int PRIMARY KEY, name text)")
    running = start(directory / "data", None, REINDEXER_SOURCES=str(file), **named)
    try:
        running.wait_until_up()
        assert running.database_url == env["DATABASE_URL"]
        started = [" ".join(each.cmdline()) for each in psutil.Process(running.process.pid).children()]
        assert [part for part in ("valkey-server", "qdrant_server", "bin/postgres") if part in str(started)] == []
        assert f"{file}:2: source 'notes': there is no table notes; see" in running.log
        assert '"things"' in reindexer("sources", "--json", env={"REINDEXER_DATA_DIR": str(running.directory)}).stdout
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE notes (id int PRIMARY KEY, text text)")
        beside = {"REINDEXER_DATA_DIR": str(running.directory), "REINDEXER_SOURCES": str(file)}
        done = reindexer("migrate", env=beside)
        assert f"{file}:3: source 'notes': public.notes has no column 'txet'; is it 'text'?" in done.stderr
        file.write_text(file.read_text(encoding="utf-8").replace("txet", "text"), encoding="utf-8")
        assert "notes          attached; a fill is started" in reindexer("migrate", env=beside).stdout
    finally:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(40)


def test_up_starts_nothing_where_the_sources_file_has_a_mistake(directory: Path) -> None:
    file = directory / "my.toml"
    file.write_text("[source.notes]", encoding="utf-8")
    done = reindexer("up", "--data-dir", str(directory / "data"), env={"REINDEXER_SOURCES": str(file)})
    assert (done.returncode, done.stderr) == (2, f"reindexer: {file}:1: source is not known; write [sources.NAME]\n")
    assert not (directory / "data").exists()
