"""Budgets: what may be spent in a period, on what, and since when one is used up. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Literal

Kind = Literal["indexing", "search"]
Period = Literal["day", "month", "run"]

BULK = ("backfill", "rebuild")
"""Purposes that each budget of indexing stops."""
NEARLY = Decimal("0.8")
"""From this part on a budget is nearly used up."""
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, and what counts against it now: what is spent, and what processes have set aside."""

    source: str
    """Empty: all sources together."""
    kind: Kind
    period: Period
    usd: float
    used_usd: float
    stops_edits: bool
    """Once it is used up, edits wait as well as backfills."""
    begins: date
    """The UTC day on which the period began."""
    is_closed: bool
    """It is used up: whatever it holds up waits."""

    @property
    def ends(self) -> date | None:
        """The UTC day at whose 00:00 the next period begins. None: a run's never does."""
        if self.period == "run":
            return None
        if self.period == "day":
            return self.begins + timedelta(days=1)
        return (self.begins.replace(day=1) + timedelta(days=32)).replace(day=1)

    @property
    def facts(self) -> dict[str, Any]:
        """What commands and routes tell."""
        return {
            "source": self.source or None, "kind": self.kind, "period": self.period, "usd": self.usd,
            "used_usd": self.used_usd, "stops_edits": self.stops_edits, "state": "closed" if self.is_closed else "open",
            "ends": self.ends,
        }  # fmt: skip

    def stops(self, purpose: str) -> bool:
        """Whether requests for this purpose wait once it is used up."""
        if self.kind == "search" or purpose in BULK:
            return True
        return self.stops_edits and purpose == "edit"

    def __str__(self) -> str:
        return told(self.kind, self.period, self.source, self.usd, self.ends)


def told(kind: Kind, period: Period, source: str, usd: float, ends: date | None) -> str:
    """Why something waits, in one line."""
    whose = f" of {source!r}" if source else ""
    what = "run's budget" if period == "run" else f"{'daily' if period == 'day' else 'monthly'} budget"
    searches = " for searches" if kind == "search" else ""
    over = f"the {what}{searches}{whose}, ${usd:g}, is used up"
    if ends is None:
        return f"{over}: raise it, or cancel the run"
    return f"{over}: over budget until {'' if period == 'day' else f'{ends} '}00:00 UTC"
