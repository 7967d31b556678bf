"""The measured figures, and how they are shown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.goals import GOALS, verdict


@dataclass(slots=True)
class Figures:
    """Measured figures, each with its comparator and its circumstances."""

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, note: str = "") -> None:
        """Add one figure. `note`: comparator, pool kind, processes."""
        self.values[name] = round(value, 4)
        self.notes[name] = note

    def write(self, path: Path) -> None:
        """Write one JSON object: name → number. Figures of an earlier run that were not measured now stay."""
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | self.values, indent=2, sort_keys=True) + "\n")

    def write_table(self, path: Path) -> None:
        """Write this run's figures as rows of Markdown, for the table in docs/performance.md."""
        rows = (f"| `{name}` | {shown(value)} | {_bound(name, value)} | {self.notes[name]} |"
                for name, value in self.values.items())  # fmt: skip
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")

    def print(self, console: Console) -> None:
        """Print a table, and below it how many goals are met."""
        table = Table("figure", "measured", "goal", "", "beside it")
        for name, value in self.values.items():
            goal = GOALS.get(name)
            met = "" if goal is None else "[green]met[/]" if goal.met(value) else "[red]missed[/]"
            table.add_row(name, shown(value), str(goal or ""), met, self.notes[name])
        console.print(table)
        console.print(verdict(self.values))


def shown(value: float) -> str:
    """The value for readers: thousands as a whole number, else four digits."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _bound(name: str, value: float) -> str:
    goal = GOALS.get(name)
    return f"{goal}{'' if goal.met(value) else ', missed'}" if goal else ""
