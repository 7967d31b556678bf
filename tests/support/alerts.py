"""The alert rules, and the names by which queries know our metrics."""

from __future__ import annotations

from typing import Any

import yaml

from reindexer.monitoring.metrics import METRICS
from tests.support.processes import ROOT

ALERTS = ROOT / "docs" / "alerts.yml"

EXPOSED = {
    name: metric
    for metric in METRICS.values()
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "count", "sum")]
        if metric.kind == "histogram"
        else [metric.name]
    )
}
"""By the name that a query uses."""


def rules() -> list[dict[str, Any]]:
    """Every rule, in order."""
    loaded = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]
