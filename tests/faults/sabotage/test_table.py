"""The table of `make sabotage` is up to date: every text that it replaces is there, and every test that it names."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

import pytest

import reindexer.testing
from tests.faults.sabotage.guards import guards, taken_away
from tests.faults.sabotage.row import Sabotage
from tests.faults.sabotage.run import Part
from tests.faults.sabotage.table import TABLE
from tests.support.processes import ROOT


@cache
def named_in(path: str) -> frozenset[str]:
    """Its functions, and of classes that inherit a contract its tests."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    inherited = {
        f"{node.name}::{name}"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        for name in dir(getattr(reindexer.testing, ast.unparse(base), object))
    }
    return frozenset(functions | inherited)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.mechanism)
def test_what_a_row_replaces_and_the_test_that_it_names_are_there(row: Sabotage) -> None:
    file, changed = taken_away(row)
    assert row.old != row.new
    if file.endswith(".py"):
        ast.parse(changed)  # a file that can't be read is no mechanism taken away
    path, _, name = row.test.partition("::")
    assert name.partition("[")[0] in named_in(path)


def test_ten_commits_one_after_the_other_run_every_row_once() -> None:
    parts = [Part.read(f"{commits}/10") for commits in range(207, 217)]
    assert Counter(row.mechanism for part in parts for row in part.of(TABLE)) == Counter(r.mechanism for r in TABLE)


def test_every_mechanism_is_named_once() -> None:
    assert len({row.mechanism for row in TABLE}) == len(TABLE)


def test_every_guard_in_the_program_has_a_row() -> None:
    assert {guard.name for guard in guards()} == {row.guard for row in TABLE}
