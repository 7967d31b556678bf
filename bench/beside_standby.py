"""Beside a standby in trouble: freshness while a former generation is kept whose provider is gone and whose queue is
full. Comparator: the same edits just before, by the same processes, with one generation. Then the same while the queue
is worked off, because its items need no provider; that is as beside a backfill."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import LiteralString

from bench.figures import Figures
from bench.freshness import ROWS, edits, percentile
from bench.rebuild import SOURCE
from bench.stage import Bench, Stage, Unsound, until
from reindexer.core.profile import Profile
from reindexer.generations import lifecycle, promotion
from reindexer.generations.promotion import Terms
from reindexer.generations.rows import generations
from reindexer.postgres.connect import connect
from reindexer.sources.store import find_source
from reindexer.testing.proxy import Mode, Proxy

RATE = 10
QUEUED = 100_000
BUSY_S = 10
"""Shorter than it takes to work the queue off."""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Edits with one generation, then beside the standby; in turns."""
    seconds, times = (5, 1) if quick else (30, 3)
    alone, beside, busy = list[list[float]](), list[list[float]](), list[list[float]]()
    for _ in range(times):
        with stage.fresh() as bench, Proxy.before(stage.provider.url) as proxy:
            bench.fill(ROWS)
            bench.processes.listener()
            bench.processes.worker(pool="prefork", concurrency=2)
            while bench.waits():
                time.sleep(0.1)
            bench.require_all_indexed()
            alone.append(edits(bench, RATE, seconds))
            keep_standby(bench, proxy.instead(stage.provider.url))
            proxy.mode = Mode.REFUSE
            queue(bench)
            beside.append(edits(bench, RATE, seconds))
            # Without their rows they are deletions.
            unseen(bench, "DELETE FROM context_items WHERE title = 'queued'")
            bench.db.execute("UPDATE reindexer.due SET marked = false WHERE generation = 2 AND marked")
            busy.append(edits(bench, RATE, min(seconds, BUSY_S)))
            if not bench.number("SELECT count(*) FROM reindexer.due WHERE generation = 2 AND NOT marked"):
                raise Unsound("the standby's queue was worked off before the edits ended")
    note = f"{RATE} edits/s; the standby's provider is gone, {QUEUED:,} of its items wait for it; prefork 2"
    for share, of in ((0.5, "p50"), (0.99, "p99")):
        found, without, working = (
            median(percentile(each, share) for each in rounds) for rounds in (beside, alone, busy)
        )
        figures.add(f"fresh_beside_standby_{of}_ms", 1000 * found, f"{note}; without a standby {1000 * without:.1f} ms")
        figures.add(
            f"fresh_beside_busy_standby_{of}_ms", 1000 * working,
            f"the same while {QUEUED:,} of its items that need no provider are worked off",
        )  # fmt: skip
    ratio = median(percentile(a, 0.5) / percentile(b, 0.5) for a, b in zip(beside, alone, strict=True))
    figures.add("fresh_beside_standby_ratio", ratio, "p50 ÷ that of the same processes before there was a standby")


def queue(bench: Bench) -> None:
    """Let rows wait for the standby's provider, and for nothing else."""
    unseen(
        bench,
        "INSERT INTO context_items (title, content) SELECT 'queued', 'text ' || n FROM generate_series(1, %s) AS n",
        QUEUED,
    )
    bench.db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane, not_before, marked)"
        " SELECT %s, id::text, 2, 'bulk', now(), true FROM context_items WHERE title = 'queued'",
        [SOURCE],
    )


def unseen(bench: Bench, statement: LiteralString, *parameters: object) -> None:
    """Change rows without our triggers."""
    with bench.db.transaction():
        bench.db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
        bench.db.execute(statement, parameters)
        bench.db.execute("ALTER TABLE context_items ENABLE TRIGGER USER")


def keep_standby(bench: Bench, provider_url: str) -> None:
    """Fill a second generation by a provider of its own, promote it, and go back."""
    with connect(bench.url, application_name="bench") as connection:
        source = find_source(connection, SOURCE)
        wanted = replace(source, profile=Profile(base_url=provider_url), made_by=None)
        lifecycle.rebuild(connection, wanted, str(source.made_by), who="bench")
        until(lambda: _state(bench, 2) == "ready", 120, "the second generation is not ready")
        terms = Terms(patience_s=30)
        promotion.promote(connection, SOURCE, who="bench", terms=terms)
        promotion.rollback(connection, SOURCE, who="bench", terms=terms)
    until(lambda: not bench.waits(), 60, "the second generation does not come to rest")


def _state(bench: Bench, number: int) -> str:
    with connect(bench.url, application_name="bench") as connection:
        return next(each.state for each in generations(connection, SOURCE) if each.number == number)
