"""The wheel, installed into an environment of its own outside of the checkout: what it holds, and what starts from it.

The libraries that we depend on come from the environment of the tests; the wheel itself is really installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import httpx
import psycopg
import pytest

from reindexer import __version__
from reindexer.embedded.children import Children, free_port
from reindexer.testing.processes import log_of
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from tests.support.commands import SERVER_SETTINGS
from tests.support.docs import program
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT

OWN_PACKAGES = ("api", "celery", "migrations", "reindexer")
"""Packages of the application in whose folder the commands run. Ours have these names as well."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel, and an application's folder."""

    wheel: Path
    environment: Path
    application: Path

    @property
    def python(self) -> str:
        """The environment's interpreter."""
        return str(self.environment / "bin" / "python")

    @property
    def program(self) -> str:
        """The console script."""
        return str(self.environment / "bin" / "reindexer")

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A command in the application's folder."""
        return subprocess.run(
            command, cwd=self.application, env=clean(env), capture_output=True, text=True, check=False, timeout=110
        )


KIT = """
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from reindexer.django import marked as marked_in_django
from reindexer.fastapi import AfterMark, Mark, mark_of
from reindexer.sqlalchemy import marked


def save(session: Session, other: AsyncSession) -> list[str | None]:
    with marked(session) as mine, marked(other, traceparent=None) as also, marked_in_django() as third:
        session.commit()
    return [mine.token, also.token, third.token]


get_mark = mark_of(Session)


def search(query: str, mark: Annotated[Mark, Depends(get_mark)], after: AfterMark = None) -> str:
    return (mark.token or query) + (after or "")
"""
"""A program that uses the modules for frameworks. Django has no types of its own."""


def clean(env: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without settings of ours, and `env`."""
    ours = {name: value for name, value in os.environ.items() if name not in (*SERVER_SETTINGS, "PYTHONPATH")}
    return {**ours, "PYTHONUNBUFFERED": "1", **(env or {})}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Builds the wheel from this tree and installs it."""
    folder = tmp_path_factory.mktemp("installed")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    environment = folder / "venv"
    venv.create(environment, symlinks=True)
    purelib = sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)})
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=60)
    # A folder in a .pth file is put behind the environment's own, and its .pth files, one of which names this checkout,
    # are not read.
    (Path(purelib) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    application = folder / "application"
    for name in OWN_PACKAGES:
        (application / name).mkdir(parents=True)
        (application / name / "__init__.py").write_text("raise SystemExit('the application was imported')\n")
    yield Installed(wheel, environment, application)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
def test_the_wheel_puts_one_package_beside_those_of_others(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
    assert {name.partition("/")[0] for name in names} == {"reindexer", f"reindexer-{__version__}.dist-info"}
    for carried in ("_api/main.py", "_api/routes/search.py", "_migrations/env.py", "py.typed"):
        assert f"reindexer/{carried}" in names
    assert [name for name in names if "__pycache__" in name or name.startswith("reindexer/tests")] == []


@pytest.mark.long
def test_pip_finds_it_installed_in_the_environment_and_not_in_the_checkout(installed: Installed) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(installed.environment)]
    listed = installed.run(*pip, "list", "-v", "--path", str(next(installed.environment.glob("lib/*/site-packages"))))
    (line,) = [each.split() for each in listed.stdout.splitlines() if each.startswith("reindexer")]
    assert line[:2] == ["reindexer", __version__]
    assert line[2].startswith(str(installed.environment)), "a wheel has no editable location"
    found = installed.run(installed.python, "-P", "-c", "import reindexer; print(reindexer.__file__)")
    assert found.stdout.startswith(str(installed.environment)), found.stderr
    assert installed.run(installed.python, "-P", "-c", "import api.main").returncode == 1, "the application's own"
    assert installed.run(installed.program, "--version").stdout == f"reindexer {__version__}\n"


@pytest.mark.timeout(300)
@pytest.mark.long
def test_mypy_strict_sees_the_types_of_the_installed_package_in_a_users_program(installed: Installed) -> None:
    folder = installed.application.parent / "typed"
    folder.mkdir()
    (folder / "right.py").write_text(program(ROOT / "docs" / "python.md"), encoding="utf-8")
    (folder / "kit.py").write_text(KIT, encoding="utf-8")
    (folder / "wrong.py").write_text(
        "from reindexer import Client, SearchResult\n"
        "found: SearchResult = Client().search('notes', 1)\n"
        "print(found.hit, Client().regenerate('notes', [1.5]), Client().status().outbox + 'x')\n",
        encoding="utf-8",
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "--cache-dir=cache",
            "--python-executable", installed.python]  # fmt: skip
    right, wrong = (
        subprocess.run([*mypy, *names], cwd=folder, capture_output=True, text=True, check=False, timeout=200)
        for names in (("right.py", "kit.py"), ("wrong.py",))
    )
    assert (right.returncode, right.stdout) == (0, ""), right.stdout
    assert [line.rpartition("[")[2] for line in wrong.stdout.splitlines()] == [
        "arg-type]", "attr-defined]", "list-item]", "operator]",
    ]  # fmt: skip


@pytest.mark.long
def test_migrate_listen_worker_and_api_start_in_the_folder_of_an_application_with_packages_of_those_names(
    installed: Installed, env: Mapping[str, str], empty_database: str, index: IndexReader, tmp_path: Path
) -> None:
    env = {**env, "DATABASE_URL": empty_database}
    migrated = installed.run(installed.program, "migrate", "--with-context-items", env=env)
    assert migrated.returncode == 0, migrated.stderr
    port = free_port()
    commands = (
        ["listen"],
        ["worker", "-c", "1", "--lanes", "live,bulk"],
        ["api", "--port", str(port), "--no-server-header"],
    )
    with Children(tmp_path / "logs") as children:
        started = [
            children.start(command[0], [installed.program, *command], env=clean(env), cwd=installed.application)
            for command in commands
        ]
        with psycopg.connect(empty_database, autocommit=True) as sql:
            row = sql.execute("INSERT INTO context_items (content) VALUES ('text') RETURNING id::text").fetchone()
        assert row
        eventually(lambda: index.holds(row[0], vector_of("text")), within=60)
        eventually(lambda: _is_ready(port), within=30)
        assert "server" not in httpx.get(f"http://127.0.0.1:{port}/healthz").headers, "an option of uvicorn's"
        for child in started:
            assert "the application was imported" not in log_of(child)
            assert children.stop(child) == (0 if child is not started[2] else -SIGTERM)  # uvicorn ends by its signal


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.ConnectError:
        return False
