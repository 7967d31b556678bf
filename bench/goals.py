"""The goals: the bound of each figure. Its comparator is measured and shown beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure: `most` or `least`."""

    most: float | None = None
    least: float | None = None

    def met(self, value: float) -> bool:
        """Whether the value is within the bound."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


GOALS: Mapping[str, Goal] = {
    "write_tax_8c": Goal(least=0.80), "write_tax_1c": Goal(least=0.75),
    "bulk_update_ratio": Goal(most=2.0), "bulk_update_64kb_ratio": Goal(most=2.0),
    "fresh_idle_ratio": Goal(most=6), "fresh_10_ratio": Goal(most=6), "fresh_100_ratio": Goal(most=6),
    "fresh_200_ratio": Goal(most=1.5),
    "fresh_under_backfill_p99_ms": Goal(most=500),
    "revoked_p99_ms": Goal(most=200), "revoked_limited_p99_ms": Goal(most=200),
    "backfill_http_ratio_0ms": Goal(least=0.85), "backfill_http_ratio_200ms": Goal(least=0.85),
    "wait_ratio": Goal(most=1.1), "mark_tax_8c": Goal(least=0.95),
    "rebuild_ratio": Goal(least=0.8),
    "fresh_related_ratio": Goal(most=1.3), "related_update_ratio": Goal(most=2),
    "related_fan_out_ratio": Goal(least=0.8), "related_payload_ratio": Goal(least=0.8),
    "fresh_under_fan_out_p99_ms": Goal(most=500),
    "scale_ratio": Goal(most=1.15),
    "drain_changes_per_s": Goal(least=60_000), "dispatch_items_per_s": Goal(least=20_000),
    "claim_ratio_under_old_snapshot": Goal(most=2),
    "top_up_ratio_under_old_snapshot": Goal(most=2),
    "rate_limited_efficiency": Goal(least=0.95), "rate_limited_429_share": Goal(most=0.01),
    "rss_worker_growth": Goal(most=1.1), "rss_listener_growth": Goal(most=1.1),
    "broker_growth": Goal(most=1.1), "broker_mb_1m": Goal(most=64),
    "idle_cpu_percent": Goal(most=2),
    "bulk_endpoint_100_p95_ms": Goal(most=100), "bulk_endpoint_1000_p95_ms": Goal(most=600),
    "payload_updates_per_s": Goal(least=3_000),
    "meaning_first": Goal(least=0.72), "meaning_of_ten": Goal(least=0.95),
    "search_api_ratio": Goal(most=3),
    "keywords_edit_more_ms": Goal(most=1), "retrieval_hybrid_ratio": Goal(least=1),
    "embedded_index_mb": Goal(most=1_024), "compacting_slowest_ms": Goal(most=200),
}  # fmt: skip


def verdict(values: Mapping[str, float]) -> str:
    """How many goals the measured figures meet, and which they miss."""
    measured = [name for name in GOALS if name in values]
    missed = [name for name in measured if not GOALS[name].met(values[name])]
    met = f"{len(measured) - len(missed)} of {len(measured)} goals met"
    others = len(GOALS) - len(measured)
    return met + (f"; missed: {', '.join(missed)}" if missed else "") + (f"; {others} not measured" if others else "")
