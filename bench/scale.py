"""Scale: seconds per row of a backfill of 300,000 rows, divided by that of 10,000.

The large run takes minutes, and the speed of a shared machine changes meanwhile. So the run is paused every few seconds
(by its source) for a bare loop over a few thousand rows, and the figure is the ratio of the two times per row. The
small run is measured in the same way, so that the begin and end of a stretch, when not all processes have work, weigh
the same in both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.bare_loop import bare_loop
from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound, until
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.drain import drain
from reindexer.sources.pause import set_paused

SMALL, LARGE = 10_000, 300_000
TIMES = 2
"""Small runs: one before the large one, one after it."""
STRETCH_S = 5.0
BARE = 3_000
"""Rows of the bare loop between two stretches."""
CLAIMED = """
SELECT count(*) FROM reindexer.due
WHERE source = 'context_items' AND lane = 'bulk' AND NOT marked AND not_before > now()
"""
"""Uses its index: to read all due rows would take time from the processes that settle them."""
LEFT = "SELECT count(*) FROM (SELECT FROM reindexer.due LIMIT 1) AS first"
SETTLED = """
SELECT count(*), extract(epoch FROM max(settled_at))::float - min(token) / 1e6
FROM reindexer.ledger WHERE settled_at > to_timestamp(%s)
"""
"""A token is the microsecond of its claim."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a run: its rows, from the first claim to the last settle; and the bare loops' rate around it."""

    rows: int
    seconds: float
    bare_rate: float


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Uses a provider of 0 ms. Takes minutes: not with `--quick`."""
    if quick:
        return
    small = [each for _ in range(TIMES) for each in _run(stage, SMALL)]
    large = _run(stage, LARGE)
    small += [each for _ in range(TIMES) for each in _run(stage, SMALL)]
    tenth = max(1, len(large) // 10)
    times = [f"{_times_bare(some):.2f}" for some in (large[:tenth], large[-tenth:])]
    figures.add(
        "scale_ratio",
        _times_bare(large) / _times_bare(small),
        f"a row takes {_times_bare(large):.2f} times as long as the bare loop's at {LARGE:,} ({' … '.join(times)}),"
        f" {_times_bare(small):.2f} times at {SMALL:,}; {_rate(large):,.0f} and {_rate(small):,.0f} rows/s",
    )


def _times_bare(stretches: Sequence[Stretch]) -> float:
    return sum(each.seconds * each.bare_rate for each in stretches) / sum(each.rows for each in stretches)


def _rate(stretches: Sequence[Stretch]) -> float:
    return sum(each.rows for each in stretches) / sum(each.seconds for each in stretches)


def _run(stage: Stage, rows: int) -> list[Stretch]:
    """The stretches of a run, without the last one, which is short, if there are several."""
    stretches = list(_stretches(stage, rows))
    return stretches[:-1] or stretches


def _stretches(stage: Stage, rows: int) -> Iterator[Stretch]:
    """All rows are due before a listener and a worker of two processes start. Their first work is not counted."""
    with stage.fresh() as bench, connect(bench.url, application_name="bench") as connection:
        bench.fill(rows)
        while drain(connection).changes:
            pass
        bench.db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")  # it would find all rows
        bench.processes.worker(pool="prefork", concurrency=2)
        bench.processes.listener()
        until(lambda: bench.number("SELECT count(*) FROM (SELECT FROM reindexer.ledger LIMIT 1) AS first") > 0, 30,
              "nothing is settled")  # fmt: skip
        _pause(bench, connection)
        before = bare_loop(bench, stage.qdrant(), BARE)
        while bench.number(LEFT):
            settled, seconds = _stretch(bench, connection)
            after = bare_loop(bench, stage.qdrant(), BARE)
            yield Stretch(settled, seconds, (before + after) / 2)
            before = after
        bench.require_all_indexed()


def _stretch(bench: Bench, connection: Connection) -> tuple[int, float]:
    resumed = time.time()
    set_paused(connection, CONTEXT_ITEMS.name, paused=False, who="bench")
    time.sleep(STRETCH_S)
    _pause(bench, connection)
    rows, seconds = bench.db.execute(SETTLED, [resumed]).fetchone() or (0, None)
    if not rows:
        raise Unsound(f"nothing is settled in {STRETCH_S} s")
    return rows, seconds


def _pause(bench: Bench, connection: Connection) -> None:
    """Pause the source, and wait until everything claimed is settled."""
    set_paused(connection, CONTEXT_ITEMS.name, paused=True, who="bench")
    until(lambda: not bench.number(CLAIMED), 60, "what was claimed is not settled")
