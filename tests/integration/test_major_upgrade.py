"""A major version of Postgres, by its own pg_upgrade: edits of before and after are indexed, and nothing is embedded twice."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pytest

from reindexer.embedded.children import ChildFailed, Children
from reindexer.embedded.postgres import start_postgres
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from tests.support.commands import Done
from tests.support.processes import Processes
from tests.support.rooms import room
from tests.support.servers import FAST, postgres_versions

OLD, NEW = 16, 18


def as_postgres(directory: Path, *command: str | Path) -> None:
    """Run one of Postgres' programs, as the user that the servers run as."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    done = subprocess.run(
        [*map(str, command)], cwd=directory, user=user, group=user, extra_groups=None if user is None else [],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(240)
def test_after_pg_upgrade_processes_wait_for_adopt_and_then_nothing_differs(
    env: Mapping[str, str], processes: Processes, provider: FakeProvider, here: Callable[..., Done]
) -> None:
    binaries = postgres_versions()
    with room() as directory:
        directory.chmod(0o777)
        data = {version: directory / str(version) for version in (OLD, NEW)}
        for version, options in ((OLD, []), (NEW, ["--no-data-checksums"])):  # which 16 has not by default
            places = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D", data[version])
            as_postgres(directory, binaries[version] / "initdb", *options, *places)
        with Children(directory / "old") as children:
            server = start_postgres(children, data[OLD], bin_directory=binaries[OLD], settings=FAST)
            url = server.url()
            given = {**env, "DATABASE_URL": url}
            with psycopg.connect(url, autocommit=True) as application:
                application.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
                application.execute("INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 50) AS n")
                assert here("migrate", env=given).returncode == 0
                assert here("attach", "notes", "--table", "notes", "--text", "body", env=given).returncode == 0
                listener, worker = processes.listener(DATABASE_URL=url), processes.worker(DATABASE_URL=url)
                eventually(lambda: completed(application) == 50, within=40)
                for process in (worker, listener):
                    processes.children.stop(process)
                application.execute("UPDATE notes SET body = body || '!' WHERE id <= 3")
        embedded = len(provider.inputs)
        as_postgres(
            directory, binaries[NEW] / "pg_upgrade", "-U", "postgres", "-b", binaries[OLD], "-B", binaries[NEW],
            "-d", data[OLD], "-D", data[NEW], "-s", directory,
        )  # fmt: skip
        with Children(directory / "new") as children:
            server = start_postgres(children, data[NEW], bin_directory=binaries[NEW], settings=FAST)
            url = server.url()
            given = {**env, "DATABASE_URL": url}
            with pytest.raises(ChildFailed, match="run `reindexer adopt`"):
                processes.listener(DATABASE_URL=url)
            assert here("adopt", env=given).returncode == 0
            processes.listener(DATABASE_URL=url)
            processes.worker(DATABASE_URL=url)
            with psycopg.connect(url, autocommit=True) as application:
                application.execute("DELETE FROM notes WHERE id = 50")
                eventually(lambda: completed(application) == 49, within=60)
                told = json.loads(here("reconcile", "notes", "--json", env=given).stdout)
                assert (told["equal"], told["rows"]) == (True, 49)
            assert len(provider.inputs) - embedded <= 4  # the three edits, and one text to know the address by
            processes.children.stop_together()


def completed(application: psycopg.Connection) -> int:
    """Items of which nothing waits."""
    query = "SELECT count(*) FILTER (WHERE status = 'COMPLETED'), count(*) FROM reindexer.item_status"
    done, known = application.execute(query.encode()).fetchone() or (0, 0)
    return int(done) if done == known else -1
