"""docs/extend.md holds a package of plug-ins. It is installed beside our wheel, keeps the contracts, and is used."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from reindexer.postgres.connect import Connection
from tests.support.commands import SERVER_SETTINGS
from tests.support.docs import blocks
from tests.support.environments import environment_with, wheel_of
from tests.support.flow import insert
from tests.support.processes import ROOT

DOCUMENT = ROOT / "docs" / "extend.md"


@dataclass(frozen=True, slots=True)
class Environment:
    """Programs of an environment with both wheels, and the package's folder."""

    programs: Path
    package: Path

    def run(self, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """The output of a program, started in the package's folder."""
        clean = {name: value for name, value in os.environ.items() if name not in (*SERVER_SETTINGS, "PYTHONPATH")}
        done = subprocess.run(
            [str(self.programs / program), *arguments], cwd=self.package, env={**clean, **(env or {})},
            capture_output=True, text=True, check=False, timeout=110,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def files() -> Mapping[str, str]:
    """The files that the document shows: a block's first line names its file."""
    found = [block.text.partition("\n") for block in blocks(DOCUMENT) if block.language in ("python", "toml")]
    return {first.removeprefix("# "): text for first, _, text in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The document's package and our own wheel, in an environment of their own."""
    folder = tmp_path_factory.mktemp("extend")
    package = folder / "package"
    for name, text in files().items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    (package / "acme_plugins" / "__init__.py").touch()
    wheels = [wheel_of(ROOT, folder), wheel_of(package, folder)]
    return Environment(environment_with(wheels, folder / "venv"), package)


@pytest.mark.long
def test_the_documents_plugins_keep_the_contracts(installed: Environment) -> None:
    told = installed.run("python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_plugins.py")
    assert " passed" in told
    assert "skipped" not in told


@pytest.mark.long
def test_the_documents_plugins_embed_store_and_find(
    installed: Environment, db: Connection, env: Mapping[str, str], tmp_path: Path
) -> None:
    chosen = {
        "DATABASE_URL": env["DATABASE_URL"], "CELERY_BROKER_URL": env["CELERY_BROKER_URL"],
        "REINDEXER_EMBEDDER": "acme", "REINDEXER_INDEX": "sqlite", "REINDEXER_INDEX_URL": str(tmp_path / "vectors.db"),
    }  # fmt: skip
    ids = [insert(db, text) for text in ("aaaaaaaa", "bbbbbbbb", "abababab")]
    embed = "import sys; from reindexer.indexing import generate_context_item_embedding as embed; embed(sys.argv[1])"
    for item_id in ids:
        installed.run("python", "-P", "-c", embed, item_id, env=chosen)
    hits = json.loads(installed.run("reindexer", "search", "context_items", "bbbb", "--json", env=chosen))["hits"]
    assert [hit["item_id"] for hit in hits] == [ids[1], ids[2], ids[0]]
    row = db.execute("SELECT embedder FROM reindexer.source WHERE name = 'context_items'").fetchone()
    assert row == ("acme:letters:26",)


@pytest.mark.long
def test_the_documents_chunker_cuts_the_texts_of_a_source_that_names_it(
    installed: Environment, db: Connection, env: Mapping[str, str], tmp_path: Path
) -> None:
    vectors = tmp_path / "vectors.db"
    chosen = {
        "DATABASE_URL": env["DATABASE_URL"], "CELERY_BROKER_URL": env["CELERY_BROKER_URL"],
        "REINDEXER_EMBEDDER": "acme", "REINDEXER_INDEX": "sqlite", "REINDEXER_INDEX_URL": str(vectors),
    }  # fmt: skip
    told = installed.run("reindexer", "attach", "context_items", "--chunker", "sections", env=chosen)
    assert "chunker  not set → sections" in told
    item_id = insert(db, "# One\naaaa\n# Two\nbbbb\n# Three\ncccc")
    embed = "import sys; from reindexer.indexing import generate_context_item_embedding as embed; embed(sys.argv[1])"
    installed.run("python", "-P", "-c", embed, item_id, env=chosen)
    with closing(sqlite3.connect(vectors)) as stored:
        places = stored.execute("SELECT start, stop FROM point WHERE item_id = ? ORDER BY chunk", [item_id]).fetchall()
    assert places == [(0, 11), (11, 22), (22, 34)]


@pytest.mark.long
def test_the_documents_application_is_tested_with_the_whole_stack(installed: Environment) -> None:
    told = installed.run("python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_application.py")
    assert "1 passed" in told


@pytest.mark.long
def test_the_testing_package_is_imported_by_nothing_that_starts(installed: Environment) -> None:
    loaded = "import sys, reindexer.celery_app, reindexer.listen, reindexer.wiring; print('reindexer.testing' in sys.modules)"
    assert installed.run("python", "-P", "-c", loaded) == "False\n"
