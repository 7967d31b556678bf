"""`python -m bench [--quick] [--only NAME …]`: measure, print, and write bench/results.json and bench/results.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench import (
    backfill,
    behind_backfill,
    beside_standby,
    bulk_endpoint,
    embedded_index,
    freshness,
    idle,
    keywords,
    meaning,
    memory,
    old_snapshot,
    payload,
    queue,
    rate_limit,
    rebuild,
    related,
    revoked,
    scale,
    search,
    sizing,
    waits,
    write_tax,
)
from bench.figures import Figures
from bench.stage import Stage, Unsound, stage
from reindexer import logs

BENCHMARKS: dict[str, Callable[..., None]] = {
    "freshness": freshness.measure,
    "backfill": backfill.measure,
    "rebuild": rebuild.measure,
    "payload": payload.measure,
    "write_tax": write_tax.measure,
    "queue": queue.measure,
    "bulk_endpoint": bulk_endpoint.measure,
    "idle": idle.measure,
    "rate_limit": rate_limit.measure,
    "revoked": revoked.measure,
    "related": related.measure,
    "behind_backfill": behind_backfill.measure,
    "beside_standby": beside_standby.measure,
    "waits": waits.measure,
    "old_snapshot": old_snapshot.measure,
    "meaning": meaning.measure,
    "search": search.measure,
    "keywords": keywords.measure,
    "embedded_index": embedded_index.measure,
    "memory": memory.measure,
    "scale": scale.measure,
    "sizing": sizing.measure,
}
RESULTS = Path(__file__).with_name("results.json")
TABLE = RESULTS.with_suffix(".md")


def main() -> int:
    """Runs the benchmarks. Exit code 1 if the result of a benchmark itself was wrong."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="smaller, once each: for trying, not for figures")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    options = parser.parse_args()
    logs.configure("WARNING", "console")
    console, figures, unsound = Console(width=160), Figures(), 0
    with stage() as built:
        for name in options.only:
            unsound += not _run(console, built, name, figures, quick=options.quick)
            figures.write(RESULTS)  # keeps the figures if a later benchmark does not finish
            figures.write_table(TABLE)
    figures.print(console)
    return 1 if unsound else 0


def _run(console: Console, built: Stage, name: str, figures: Figures, *, quick: bool) -> bool:
    began = time.monotonic()
    try:
        BENCHMARKS[name](built, figures, quick=quick)
    except Unsound as exc:
        console.print(f"[red]{name}: {exc}[/]")
        return False
    console.print(f"{name}: {time.monotonic() - began:.0f} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
