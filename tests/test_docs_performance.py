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


def test_the_sizes_by_which_a_reader_plans_are_those_that_were_measured() -> None:
    measured = {name: float(value.replace(",", "")) for name, value, *_ in figures() if value != NOT_MEASURED}
    table = sections(ROOT / "docs" / "years.md", 2)["How large"]
    rows = [(cells[2], re.findall(r"`(sizing_\w+)`", cells[3])) for line in table.splitlines()
            if len(cells := line.split("|")) == 5 and "`sizing_" in line]  # fmt: skip
    assert len(rows) > 12
    wrong = [name for told, names in rows for name in names
             if not re.search(rf"(?<![\d.,]){re.escape(rounded(measured[name]))}(?![\d,])", told)]  # fmt: skip
    assert wrong == []


def rounded(value: float) -> str:
    """As docs/years.md writes it."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def figures() -> list[list[str]]:
    """Rows of the table of figures: name, measured, goal, beside it."""
    return table_rows(sections(DOCUMENT, 2)["Figures"])
