"""Scale: seconds a row of a backfill of 300,000 rows ÷ of one of 10,000.

The large run takes minutes, in which a machine that others use too becomes slower and quicker by a fifth. So small runs
stand on both sides of it. And a small run begins and ends with a larger part of its time, when not all processes have
work: of each run only the middle counts.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.backfill import backfill
from bench.bare_loop import bare_loop
from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound

SMALL, LARGE = 10_000, 300_000
BESIDE = 2
"""Small runs on each side."""
EDGE = 2_000
"""Rows that do not count, at a run's begin and at its end: eight batches."""
MIDDLE = """
SELECT extract(epoch FROM max(settled_at) - min(settled_at))::float
FROM (SELECT settled_at FROM reindexer.ledger ORDER BY settled_at OFFSET %s LIMIT %s) AS middle
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows a second of one run."""

    ours: float
    bare: float


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Ours and the bare loop at both sizes, a provider of 0 ms. Takes minutes: not in quick."""
    if quick:
        return
    before = [_run(stage, SMALL) for _ in range(BESIDE)]
    large = _run(stage, LARGE)
    small = [*before, *(_run(stage, SMALL) for _ in range(BESIDE))]
    for name, at_large, at_small in (
        ("scale_ratio", large.ours, [each.ours for each in small]),
        ("scale_ratio_bare", large.bare, [each.bare for each in small]),
    ):
        told = ", ".join(f"{rate:,.0f}" for rate in at_small)
        note = f"{at_large:,.0f} rows/s at {LARGE:,}; at {SMALL:,} {told}"
        figures.add(name, statistics.median(at_small) / at_large, note)


def _run(stage: Stage, rows: int) -> Run:
    with stage.fresh() as bench:
        bench.fill(rows)
        bare = bare_loop(bench, stage.qdrant(), rows)
        backfill(bench, within_s=900)
        return Run(_middle(bench, rows), bare)


def _middle(bench: Bench, rows: int) -> float:
    """Rows a second, without the first and the last."""
    counted = rows - 2 * EDGE
    (seconds,) = bench.db.execute(MIDDLE, [EDGE, counted]).fetchone() or (0.0,)
    if not seconds:
        raise Unsound("nothing was settled")
    return counted / float(seconds)
