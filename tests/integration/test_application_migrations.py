"""The application's own migration tool proposes nothing about what is ours: a real Alembic project, a real database."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import URL

from reindexer.core.source import Source
from reindexer.migrate import migrate
from reindexer.postgres.connect import connect
from reindexer.sources.attach import attach
from tests.support.docs import blocks
from tests.support.processes import ROOT
from tests.support.servers import Servers, database_url

pytestmark = pytest.mark.long

MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("notes", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))
sa.Table("goods", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text), schema="shop")
"""
CONFIGURE = "connection=connection, target_metadata=target_metadata\n"
HOOK = "include_name="


class Project:
    """As `alembic init` makes it, with the models of an application."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.alembic("init", "app")
        (directory / "models.py").write_text(MODELS, encoding="utf-8")
        self._replace("alembic.ini", "driver://user:pass@localhost/dbname", self._escaped(url))
        self._replace("app/env.py", "target_metadata = None", "import models\n\ntarget_metadata = models.metadata")

    @staticmethod
    def _escaped(url: str) -> str:
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        return str(URL.create("postgresql+psycopg", query=parts)).replace("%", "%%")

    def with_schemas(self, hook: str = "") -> None:
        """Looks at all schemas; with the hook of docs/operations.md, or without any."""
        option = f"include_schemas=True,\n{'include_name=include_name,' if hook else ''}\n"
        self._replace("app/env.py", CONFIGURE, CONFIGURE.rstrip("\n") + ",\n" + option)
        self._replace("app/env.py", "def run_migrations_offline", f"{hook}\n\ndef run_migrations_offline")

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alembic", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.directory)}
        return subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def make_its_tables(self) -> None:
        for step in (("revision", "--autogenerate", "-m", "first"), ("upgrade", "head")):
            done = self.alembic(*step)
            assert done.returncode == 0, done.stderr

    def _replace(self, path: str, old: str, new: str) -> None:
        text = (self.directory / path).read_text(encoding="utf-8")
        assert old in text
        (self.directory / path).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield database_url(servers, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def documented_hook() -> str:
    (block,) = [each for each in blocks(ROOT / "docs" / "operations.md") if "def include_name" in each.text]
    return block.text


def attach_both(url: str, *, with_context_items: bool) -> None:
    migrate(url, with_context_items=with_context_items)
    with connect(url, application_name="test") as connection:
        attach(connection, Source("notes", "public", "notes", ("id",), ("body",)))
        attach(connection, Source("goods", "shop", "goods", ("id",), ("name",)))


def test_autogenerate_as_it_comes_proposes_nothing(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
    project = Project(tmp_path, url)
    migrate(url)  # before the application has made anything
    (tmp_path / "models.py").write_text(MODELS.rpartition("sa.Table")[0], encoding="utf-8")  # public alone
    project.make_its_tables()
    with connect(url, application_name="test") as connection:
        attach(connection, Source("notes", "public", "notes", ("id",), ("body",)))
    done = project.alembic("check")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "No new upgrade operations detected" in done.stdout


@pytest.mark.parametrize(
    "with_context_items",
    [pytest.param(False, id="own tables"), pytest.param(True, id="with the built-in table", marks=pytest.mark.long)],
)
def test_autogenerate_over_all_schemas_proposes_nothing_with_the_documented_hook(
    url: str, tmp_path: Path, with_context_items: bool
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
    project = Project(tmp_path, url)
    project.with_schemas(documented_hook())
    project.make_its_tables()
    attach_both(url, with_context_items=with_context_items)
    done = project.alembic("check")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "No new upgrade operations detected" in done.stdout


@pytest.mark.long
def test_without_the_hook_it_would_drop_our_tables(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
    project = Project(tmp_path, url)
    project.with_schemas()
    project.make_its_tables()
    attach_both(url, with_context_items=False)
    done = project.alembic("check")
    assert done.returncode != 0
    assert "reindexer.outbox" in done.stderr + done.stdout
