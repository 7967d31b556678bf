"""Rate limit: the share of a provider's grant that four worker processes use, and of requests answered by 429."""

from __future__ import annotations

import time
from collections.abc import Mapping

from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound, until
from reindexer.postgres.connect import connect
from reindexer.queue.drain import drain

TOKENS_PER_MINUTE = 600_000
PROCESSES = 4
WAYS: Mapping[str, tuple[bool, Mapping[str, str], str]] = {
    "": (False, {"REINDEXER_TOKENS_PER_MINUTE": str(TOKENS_PER_MINUTE)}, "the limit is set"),
    "told_": (True, {}, "learned from headers"),
    "blind_": (False, {}, "neither set nor told: found by 429"),
}
"""Whether headers advertise the limit; the settings; and the name of the case."""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Measures with a limit that is set, advertised, and neither; with `--quick` only the first."""
    steady_s = 12 if quick else 60
    for way, (headers, settings, how) in list(WAYS.items())[: 1 if quick else None]:
        with stage.fresh() as bench:
            used, refused = _shares(bench, settings, steady_s, headers=headers)
        beside = f"{how}; {PROCESSES} processes, {TOKENS_PER_MINUTE:,} tokens/min, {steady_s} s"
        figures.add(f"rate_limited_{way}efficiency", used, beside)
        figures.add(f"rate_limited_{way}429_share", refused, beside)


def _shares(bench: Bench, settings: Mapping[str, str], steady_s: float, *, headers: bool) -> tuple[float, float]:
    provider = bench.stage.provider
    bench.fill(int(450 * (steady_s + 10)))  # texts have about 30 tokens
    with connect(bench.url, application_name="bench") as connection:
        while drain(connection).changes:
            pass
    provider.limit(TOKENS_PER_MINUTE, headers=headers)
    try:
        bench.processes.worker(pool="prefork", concurrency=PROCESSES, **settings)
        bench.processes.listener(**settings)
        asked = provider.stats()["requests"]
        until(lambda: provider.stats()["requests"] > asked, 30, "nothing is embedded")
        time.sleep(5)
        before = provider.stats()
        time.sleep(steady_s)
        after = provider.stats()
        if bench.waits() < 1000:
            raise Unsound("the backfill ended: the limit was not what held it up")
    finally:
        provider.limit(None)
    more = {name: after[name] - before[name] for name in after}
    return more["tokens"] / more["granted"], more["refused"] / (more["refused"] + more["requests"])
