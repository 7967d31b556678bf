"""`reindexer up`, `down` and `demo`: each end of it is defined and told, and no process is left behind."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from reindexer.cli.demo import QUERY, words_of
from reindexer.cli.stdlib_texts import stdlib_texts
from reindexer.embedded.children import free_port
from reindexer.testing.waiting import eventually
from tests.support.commands import CLEAN, reindexer
from tests.support.docs import blocks
from tests.support.processes import ROOT

PROGRAM = Path(sys.executable).with_name("reindexer")


@dataclass
class Up:
    """A running `up`."""

    process: subprocess.Popen[str]
    directory: Path
    port: int

    @property
    def log(self) -> str:
        return (self.directory / "up.out").read_text(encoding="utf-8")

    def family(self) -> list[psutil.Process]:
        """Everything it started, and itself."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def wait_until_up(self) -> None:
        eventually(lambda: "data, logs" in self.log or self.process.poll() is not None, within=60)
        assert self.process.poll() is None, self.log

    @property
    def database_url(self) -> str:
        found = re.search(r'psql "([^"]+)"', self.log)
        assert found
        return found.group(1)

    def insert(self, text: str) -> bool:
        """False while Postgres is not there."""
        try:
            with psycopg.connect(self.database_url, autocommit=True) as connection:
                connection.execute("INSERT INTO context_items (content) VALUES (%s)", [text])
        except psycopg.Error:
            return False
        return True

    def finds(self, text: str) -> bool:
        """True if the search's best hit has all the words."""
        key = (self.directory / "admin.key").read_text(encoding="utf-8").strip()
        body = {"source": "context_items", "query": text, "limit": 1}
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{self.port}/search", json=body, headers={"X-API-Key": key}, timeout=10
            )
        except httpx.HTTPError:
            return False
        return answer.is_success and any(hit["score"] > 0.99 for hit in answer.json()["hits"])


def start(directory: Path, port: int | None = None, options: Sequence[str] = (), cwd: Path = ROOT, /, **env: str) -> Up:
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "up.out").open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [str(PROGRAM), "up", "--data-dir", str(directory), "--port", str(port), *options],
            env={**CLEAN, **env}, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    return Up(process, directory, port)


def gone(family: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Outside pytest's own, which root closes to the user that Postgres runs as."""
    path = Path(tempfile.mkdtemp(prefix="rx up-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


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
    with tempfile.TemporaryDirectory(prefix="rx up-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        kept = Kept(Path(name))
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


def test_a_second_up_and_a_taken_port_are_one_line(running: Up, tmp_path: Path) -> None:
    second = reindexer("up", "--data-dir", str(running.directory), "--port", str(free_port()))
    assert second.returncode == 1
    assert "it is up already (pid" in second.stderr
    third = reindexer("up", "--data-dir", str(tmp_path / "other"), "--port", str(running.port))
    assert third.returncode == 1
    assert third.stderr.strip() == f"reindexer: port {running.port} of 127.0.0.1 is taken; choose another with --port"


def test_an_older_data_directory_is_told(directory: Path) -> None:
    (directory / "postgres").mkdir()
    (directory / "postgres" / "PG_VERSION").write_text("12\n", encoding="ascii")
    done = reindexer("up", "--data-dir", str(directory), "--port", str(free_port()))
    assert done.returncode == 2
    assert "was made by PostgreSQL 12, this is PostgreSQL 18" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_index_of_an_older_version_is_told_in_one_line_and_filled_anew_without_a_write(directory: Path) -> None:
    up = start(directory)
    up.wait_until_up()
    assert up.insert("kept over another index")
    eventually(lambda: up.finds("kept over another index"), within=30)
    up.process.terminate()
    up.process.wait(30)
    folder = directory / "qdrant"
    shutil.rmtree(folder)
    (folder / "collection" / "context_items__g1").mkdir(parents=True)
    (folder / "collection" / "context_items__g1" / "storage.sqlite").write_bytes(b"of another kind")
    (folder / "meta.json").write_text("{}")
    again = start(directory)
    again.wait_until_up()
    assert len([line for line in again.log.splitlines() if "an older version's" in line]) == 1, again.log
    eventually(lambda: again.finds("kept over another index"), within=30)
    assert not (folder / "meta.json").exists()
    again.process.terminate()
    again.process.wait(30)


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


def test_the_demo_tells_its_figures_and_the_lines_that_the_readme_shows_and_leaves_no_process(directory: Path) -> None:
    """With --json, its lines are on standard error."""
    done = reindexer("demo", "--limit", "1000", "--json", env={"TMPDIR": str(directory)}, forked=False)
    assert done.returncode == 0, done.stderr
    (shown,) = [block for block in blocks(ROOT / "README.md") if block.mark == "demo"]
    told = iter(masked(done.stderr))
    assert [line for line in masked(shown.text) if line not in told] == [], "shown, but not printed in this order"
    figures = json.loads(done.stdout)
    assert figures["indexed"] == 1000
    found = re.search(r"^ +0\.\d{3}  (\S+): ", done.stderr, re.MULTILINE)
    assert found
    (text,) = [each.text for each in stdlib_texts() if each.name == found[1]]
    assert not words_of(QUERY) & words_of(f"{found[1]} {text}")
    assert figures["edit_searchable_ms"] < 500
    assert figures["delete_gone_ms"] < 500
    assert figures["bulk_queued"] == figures["bulk_succeeded"] == 100
    assert [each for each in psutil.process_iter(["cmdline"]) if str(directory) in str(each.info)] == []
    assert list(directory.iterdir()) == []


def masked(output: str) -> list[str]:
    """Its lines without numbers, without the names of what the search found and of this machine."""
    here = f"on {platform.system().replace('Darwin', 'macOS')} {platform.machine()};"
    lines = [line.strip().replace(here, "on Linux x86_64;") for line in output.splitlines() if line.strip()]
    return [re.sub(r"\d[\d,.]*", "N", re.sub(r"^(0\.\d{3}) .*", r"\1 NAME", line)) for line in lines]


def test_without_its_listener_the_demo_fails() -> None:
    done = reindexer("demo", "--limit", "50", "--without", "listener")
    assert done.returncode == 1
    assert "does a listener run?" in done.stderr


def test_the_demo_asks_before_it_spends_money() -> None:
    paid = {"OPENAI_API_KEY": "sk-none"}
    done = reindexer("demo", "--limit", "50", env=paid)
    assert done.returncode == 1
    assert re.search(r"embeds about [\d,]+ tokens with text-embedding-3-small, about \$0\.\d\d", done.stdout)


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


@pytest.mark.timeout(300)
def test_up_goes_on_by_words_where_its_data_was_made_so_and_knows_meaning_once_that_is_attached_anew(
    directory: Path,
) -> None:
    """An older version's default was `hashing`. Vectors of two never meet, and nothing is dropped unasked."""
    first = start(directory, REINDEXER_EMBEDDER="hashing")
    first.wait_until_up()
    first.insert("the invoice is overdue")
    eventually(lambda: first.finds("the invoice is overdue"))
    first.process.terminate()
    first.process.wait(40)
    second = start(directory)
    second.wait_until_up()
    assert "the points of 'context_items' are made by `hashing`, which matches words, and stay so; for" in second.log
    assert "hashing, built in: it matches words" in second.log
    second.insert("a doctor will see you now")
    eventually(lambda: second.finds("a doctor will see you now"))
    beside = {"REINDEXER_DATA_DIR": str(directory)}
    again = ("--table", "public.context_items", "--text", "title,content", "--payload", "title,metadata")
    second.process.terminate()
    second.process.wait(40)
    third = start(directory, REINDEXER_EMBEDDER="static")
    third.wait_until_up()
    assert reindexer("detach", "context_items", "--drop-collection", env=beside).returncode == 0
    assert reindexer("attach", "context_items", *again, env=beside).returncode == 0
    eventually(lambda: third.finds("the invoice is overdue"))
    third.process.terminate()
    third.process.wait(40)
    fourth = start(directory)
    fourth.wait_until_up()
    assert "static, built in: it knows meaning" in fourth.log
    assert "made by" not in fourth.log
    eventually(lambda: fourth.finds("the invoice is overdue"))
    fourth.process.terminate()
    fourth.process.wait(40)


def test_up_with_another_model_than_the_data_is_up_and_tells_the_steps_to_take(directory: Path) -> None:
    first = start(directory, REINDEXER_EMBEDDER="hashing", REINDEXER_EMBEDDING_DIMENSIONS="64")
    first.wait_until_up()
    first.insert("a text")
    eventually(lambda: first.finds("a text"))
    first.process.terminate()
    first.process.wait(40)
    second = start(directory)
    second.wait_until_up()
    assert "made by hashing-1:64, the settings here say hashing-1:1536" in second.log
    assert "`reindexer detach context_items --drop-collection`, then attach it" in second.log
    second.process.terminate()
    second.process.wait(40)
