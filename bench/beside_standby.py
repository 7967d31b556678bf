"""Beside a standby in trouble: freshness while a former generation is kept whose provider is gone and whose queue is
full. Comparator: the same edits just before, by the same processes, with one generation."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

from bench.figures import Figures
from bench.freshness import ROWS, edits, percentile
from bench.rebuild import SOURCE
from bench.stage import Bench, Stage, until
from reindexer.core.profile import Profile
from reindexer.generations import lifecycle, promotion
from reindexer.generations.promotion import Terms
from reindexer.generations.rows import generations
from reindexer.postgres.connect import connect
from reindexer.sources.store import find_source
from reindexer.testing.proxy import Mode, Proxy

RATE = 10


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Edits with one generation, then beside the standby; in turns."""
    seconds, times, queued = (5, 1, 5_000) if quick else (30, 2, 100_000)
    alone, beside = list[list[float]](), list[list[float]]()
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
            bench.fill(queued)
            until(lambda: _all_wait(bench), 600, "the standby's items do not come to wait for its provider")
            beside.append(edits(bench, RATE, seconds))
    note = f"{RATE} edits/s; the standby's provider is gone, {queued:,} of its items wait for it; prefork 2"
    for share, of in ((0.5, "p50"), (0.99, "p99")):
        found, without = (median(percentile(each, share) for each in rounds) for rounds in (beside, alone))
        figures.add(f"fresh_beside_standby_{of}_ms", 1000 * found, f"{note}; without a standby {1000 * without:.1f} ms")
    ratio = median(percentile(a, 0.5) / percentile(b, 0.5) for a, b in zip(beside, alone, strict=True))
    figures.add("fresh_beside_standby_ratio", ratio, "p50 ÷ that of the same processes before there was a standby")


def keep_standby(bench: Bench, provider_url: str) -> None:
    """Fill a second generation by a model and a provider of its own, promote it, and go back."""
    with connect(bench.url, application_name="bench") as connection:
        source = find_source(connection, SOURCE)
        # Of the same model, it would take its vectors from the active generation, and wait for nobody.
        profile = Profile(model="another", dimensions=source.profile.dimensions, base_url=provider_url)
        by, _, dimensions = str(source.made_by).split(":")
        wanted = replace(source, profile=profile, made_by=None)
        lifecycle.rebuild(connection, wanted, f"{by}:another:{dimensions}", who="bench")
        until(lambda: _state(bench, 2) == "ready", 120, "the second generation is not ready")
        terms = Terms(patience_s=30)
        promotion.promote(connection, SOURCE, who="bench", terms=terms)
        promotion.rollback(connection, SOURCE, who="bench", terms=terms)
    until(lambda: not bench.waits(), 60, "the second generation does not come to rest")


def _all_wait(bench: Bench) -> bool:
    """Whether all that is left are items of the standby that wait for nothing but its provider."""
    return not bench.waits() - bench.number("SELECT count(*) FROM reindexer.due WHERE generation = 2 AND marked")


def _state(bench: Bench, number: int) -> str:
    with connect(bench.url, application_name="bench") as connection:
        return next(each.state for each in generations(connection, SOURCE) if each.number == number)
