"""Rebuild: rows per second of a fill that takes all vectors from the former generation. Comparator: the backfill that
made them, the same rows, processes and server."""

from __future__ import annotations

import statistics
from dataclasses import replace

from bench.backfill import backfill
from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound, until
from reindexer.core.profile import Profile
from reindexer.generations import lifecycle
from reindexer.postgres.connect import connect
from reindexer.sources.store import find_source

SOURCE = "context_items"
GRAPH = Profile(collection={"hnsw_config": {"m": 12}})


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """A backfill, then a rebuild that changes the graph alone; in turns. The provider takes 0 ms."""
    rows, times = (2_000, 1) if quick else (10_000, 3)
    filled, rebuilt = list[float](), list[float]()
    for _ in range(times):
        with stage.fresh() as bench:
            bench.fill(rows)
            backfill(bench, within_s=300)
            asked = stage.provider.stats()["inputs"]
            rebuild(bench, rows)
            if stage.provider.stats()["inputs"] != asked:
                raise Unsound("a rebuild that changes the graph alone asks the provider")
            filled.append(rows / _claimed_to_settled_s(bench, 1))
            rebuilt.append(rows / _claimed_to_settled_s(bench, 2))
    found, beside = statistics.median(rebuilt), statistics.median(filled)
    figures.add("rebuild_rps", found, f"backfill {beside:,.0f}; prefork 2, {rows:,} rows")
    figures.add("rebuild_ratio", found / beside, "rows/s ÷ the backfill's, with a provider of 0 ms")


def rebuild(bench: Bench, rows: int) -> None:
    """Fill the next generation. The listener and the worker of the backfill are still there."""
    with connect(bench.url, application_name="bench") as connection:
        source = find_source(connection, SOURCE)
        wanted = replace(source, profile=GRAPH, made_by=None)
        lifecycle.rebuild(connection, wanted, str(source.made_by), who="bench")
    until(lambda: not bench.waits(), 300, "the rebuild does not end")
    query = "SELECT count(*) FROM reindexer.ledger WHERE generation = 2 AND outcome = 'COMPLETED'"
    done, points = bench.number(query), bench.stage.qdrant().count(f"{SOURCE}__g2", exact=True).count
    if not rows == done == points:
        raise Unsound(f"{rows} rows, {done} completed in the next generation, {points} points")


def _claimed_to_settled_s(bench: Bench, generation: int) -> float:
    """From the first claim of a generation until all of it is settled."""
    query = (
        "SELECT extract(epoch FROM max(settled_at))::float - min(token) / 1e6 FROM reindexer.ledger"
        " WHERE generation = %s"
    )
    (seconds,) = bench.db.execute(query, [generation]).fetchone() or (0.0,)
    return float(seconds)
