"""The table of `make sabotage` is up to date: every text that it replaces is there, and every test that it names."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.faults.sabotage.row import Sabotage
from tests.faults.sabotage.table import TABLE
from tests.support.processes import ROOT


@cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.mechanism)
def test_what_a_row_replaces_and_the_test_that_it_names_are_there(row: Sabotage) -> None:
    assert (ROOT / row.file).read_text(encoding="utf-8").count(row.old) == row.times
    assert row.old != row.new
    path, _, name = row.test.partition("::")
    assert name.partition("[")[0] in named_in(path)


def test_every_mechanism_is_named_once() -> None:
    assert len({row.mechanism for row in TABLE}) == len(TABLE)
