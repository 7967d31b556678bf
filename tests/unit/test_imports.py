"""Helpers that tests share are no tests, and benchmarks need no tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def is_of_tests(module: str) -> bool:
    """Whether pytest collects the module, or reads its fixtures."""
    last = module.rpartition(".")[2]
    named = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return module.startswith("tests.") and (last.startswith("test_") or last == "conftest") and named.is_file()


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_no_module_imports_one_that_holds_tests(folder: str) -> None:
    found = {
        f"{file.relative_to(ROOT)} imports {module}"
        for file in (ROOT / folder).rglob("*.py")
        for module in imported(file)
        if is_of_tests(module)
    }
    assert found == set()


def test_benchmarks_import_nothing_of_the_tests() -> None:
    found = {
        f"{file.relative_to(ROOT)} imports {module}"
        for file in (ROOT / "bench").rglob("*.py")
        for module in imported(file)
        if module.partition(".")[0] == "tests"
    }
    assert found == set()
