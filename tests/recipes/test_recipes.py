"""The programs of docs/clients.md, each in an environment of its own that holds what its `pip install` names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reindexer.adapters.bm25 import encoder
from reindexer.adapters.embedders.static import StaticEmbedder
from reindexer.core.keywords import KeywordRules
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import Call, FakeProvider, Reply
from reindexer.testing.waiting import eventually
from tests.support.docs import Reader, Recipe, blocks, recipes
from tests.support.flow import idle
from tests.support.index_reader import IndexReader
from tests.support.package_index import PackageIndex, package_index
from tests.support.processes import ROOT, Processes

DOCUMENT = ROOT / "docs" / "clients.md"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
SHARED = "pages.py"
RECIPES = recipes(DOCUMENT)
PROGRAMS = [recipe for recipe in RECIPES.values() if recipe.name != SHARED]

QUERIES = (
    "how long does tea take", "INV-2291", "The RUNNING dogs", "全文検索 with 東京", "물을 마신다", "水", "ＦＵＬＬ ﾜｲﾄﾞ", "?!", "",
)  # fmt: skip


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    """Vectors are as long as those of the built-in model."""
    return {**env, "REINDEXER_EMBEDDING_DIMENSIONS": str(StaticEmbedder().dimensions)}


def by_meaning(call: Call) -> Reply:
    """The built-in model behind OpenAI's API."""
    vectors = StaticEmbedder().embed(call.inputs, timeout_s=5).vectors
    data = [{"object": "embedding", "index": n, "embedding": vector.tolist()} for n, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return Reply(200, {"object": "list", "data": data, "model": call.body["model"], "usage": usage})


@pytest.fixture
def reader(env: Mapping[str, str], db: Connection, processes: Processes, provider: FakeProvider) -> Reader:
    """Has done what the document says, so that its pages are indexed."""
    provider.behave = by_meaning
    processes.listener()
    processes.worker()
    _, url = processes.api()
    followed = Reader(processes.children, env, int(url.rpartition(":")[2]), preset=True)
    followed.follow(DOCUMENT)
    eventually(lambda: idle(db), within=30)
    return followed


@pytest.mark.timeout(240)
def test_the_point_in_the_document_is_one_that_its_commands_make(reader: Reader, index: IndexReader) -> None:
    (told,) = [json.loads(block.text) for block in blocks(DOCUMENT) if block.language == "json"]
    stored = IndexReader(index.client, "pages").payload("1") or {}
    for payload in (told, stored):
        del payload["_reindexer"]["version"], payload["_reindexer"]["fingerprint"]
    assert stored == told


@pytest.fixture(scope="module")
def packages() -> PackageIndex:
    """Skips the test where there is no package index."""
    return package_index()


def python_with(packages: PackageIndex, recipe: Recipe, folder: Path) -> str:
    """Make an environment with the recipe's packages; return its interpreter."""
    python = folder / "bin" / "python"
    uv = [str(Path(sys.executable).with_name("uv")), "--quiet", "--no-config", "venv", "--python", sys.executable]
    subprocess.run([*uv, str(folder)], check=True, timeout=60)
    done = packages.uv("install", "--python", python, "--constraint", CONSTRAINTS, *recipe.packages, timeout_s=400)
    assert done.returncode == 0, done.stderr
    return str(python)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("recipe", PROGRAMS, ids=lambda recipe: recipe.name.removesuffix(".py"))
def test_a_recipe_returns_the_texts_of_chunks_with_their_metadata(
    packages: PackageIndex, recipe: Recipe, reader: Reader, tmp_path: Path
) -> None:
    python = python_with(packages, recipe, tmp_path / "venv")
    for each in (RECIPES[SHARED], recipe):
        (tmp_path / each.name).write_text(each.program, encoding="utf-8")
    env = {**reader.env, "HAYSTACK_TELEMETRY_ENABLED": "False"}
    done = subprocess.run(
        [python, recipe.name], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == recipe.prints


def test_each_recipe_says_what_to_install_and_what_it_prints() -> None:
    assert len(PROGRAMS) == 4
    pinned = re.findall(r"^([\w-]+)==", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    for recipe in PROGRAMS:
        assert recipe.packages, recipe.name
        assert set(recipe.packages) <= set(pinned), recipe.name
        assert "reindexer" not in re.findall(r"^(?:import|from) (\w+)", recipe.program, re.MULTILINE)
        assert "Wait three minutes" in recipe.prints, recipe.name


@pytest.mark.parametrize("query", QUERIES)
def test_a_program_without_reindexer_computes_the_words_of_a_query_as_we_do(query: str) -> None:
    shared: dict[str, Any] = {}
    exec(RECIPES[SHARED].program, shared)
    indices, values = shared["keywords"](query)
    ours = encoder(KeywordRules()).query(query)
    assert dict(zip(indices, values, strict=True)) == dict(zip(*ours, strict=True))
