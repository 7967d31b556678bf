"""docs/performance.md agrees with the benchmarks: which there are, which goals, and whether a figure meets its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.__main__ import BENCHMARKS
from bench.figures import Figures
from bench.goals import GOALS
from tests.support.docs import sections, table_rows
from tests.support.processes import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
NOT_MEASURED = "–"


def test_every_benchmark_is_documented_and_none_that_does_not_exist() -> None:
    documented = re.findall(r"^- `(\w+)`: ", sections(DOCUMENT, 2)["What is measured"], re.MULTILINE)
    assert sorted(documented) == sorted(BENCHMARKS)


def test_every_goal_stands_beside_its_figure_as_the_benchmarks_have_it() -> None:
    told = {name: goal.removesuffix(", missed") for name, _, goal, _ in figures() if goal}
    assert told == {name: str(goal) for name, goal in GOALS.items()}


def test_a_figure_that_misses_its_goal_says_so() -> None:
    for name, measured, goal, _ in figures():
        if measured != NOT_MEASURED and name in GOALS:
            assert goal.endswith(", missed") is not GOALS[name].met(float(measured.replace(",", ""))), name


@pytest.mark.parametrize(
    ("value", "row"),
    [
        (5.8712, "| `fresh_10_ratio` | 5.871 | ≤ 6 | a note |"),
        (6.2, "| `fresh_10_ratio` | 6.2 | ≤ 6, missed | a note |"),
        (161_234.5, "| `fresh_10_ratio` | 161,234 | ≤ 6, missed | a note |"),
    ],
)
def test_a_run_writes_the_rows_of_the_document(tmp_path: Path, value: float, row: str) -> None:
    measured = Figures()
    measured.add("fresh_10_ratio", value, "a note")
    measured.write_table(tmp_path / "rows.md")
    assert (tmp_path / "rows.md").read_text(encoding="utf-8") == row + "\n"


def figures() -> list[list[str]]:
    """Rows of the table of figures: name, measured, goal, beside it."""
    return table_rows(sections(DOCUMENT, 2)["Figures"])
