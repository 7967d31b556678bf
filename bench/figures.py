"""What is measured, against which goal, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure. `most` or `least`."""

    most: float | None = None
    least: float | None = None

    def met(self, value: float) -> bool:
        """True within the bound."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


GOALS: Mapping[str, Goal] = {
    "write_tax_8c": Goal(least=0.80), "write_tax_1c": Goal(least=0.75),
    "bulk_update_ratio": Goal(most=2.0), "bulk_update_64kb_ratio": Goal(most=2.0),
    "fresh_idle_p50_ms": Goal(most=20), "fresh_idle_p99_ms": Goal(most=60),
    "fresh_10_p50_ms": Goal(most=20), "fresh_10_p99_ms": Goal(most=32),
    "fresh_100_p50_ms": Goal(most=40), "fresh_100_p99_ms": Goal(most=200),
    "fresh_200_p50_ms": Goal(most=230), "fresh_200_p99_ms": Goal(most=300),
    "backfill_ratio_0ms": Goal(least=0.85), "backfill_ratio_200ms": Goal(least=0.85),
    "drain_changes_per_s": Goal(least=60_000), "dispatch_items_per_s": Goal(least=20_000),
    "payload_updates_per_s": Goal(least=3_000),
    "rate_limited_efficiency": Goal(least=0.95), "rate_limited_429_share": Goal(most=0.01),
    "idle_cpu_percent": Goal(most=2),
    "bulk_endpoint_100_p95_ms": Goal(most=100), "bulk_endpoint_1000_p95_ms": Goal(most=600),
}  # fmt: skip


@dataclass(slots=True)
class Figures:
    """Measured figures, each with what it is compared with and under which circumstances."""

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, note: str = "") -> None:
        """Note one figure. `note`: comparator, pool kind, processes."""
        self.values[name] = round(value, 4)
        self.notes[name] = note

    def write(self, path: Path) -> None:
        """One JSON object: name → number. Figures of an earlier run that were not measured now stay."""
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | self.values, indent=2, sort_keys=True) + "\n")

    def print(self, console: Console) -> None:
        """As a table."""
        table = Table("figure", "measured", "goal", "", "beside it")
        for name, value in self.values.items():
            goal = GOALS.get(name)
            met = "" if goal is None else "[green]met[/]" if goal.met(value) else "[red]missed[/]"
            table.add_row(name, f"{value:,.4g}", str(goal or ""), met, self.notes[name])
        console.print(table)
