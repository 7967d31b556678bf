"""`make torture [SEED=n] [SECONDS=s]`: one run. The line goes to stdout, all else to stderr."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.torture.environment import remove
from tests.torture.run import run


def main() -> int:
    """0: nothing is lost, stale or extra, and all became idle within the bound. 1: not so."""
    parser = argparse.ArgumentParser(prog="torture", description="Random edits under random faults, then a comparison.")
    parser.add_argument("--seed", help="Of every random choice. Default: a random one.")
    parser.add_argument("--seconds", type=float, default=60.0, help="How long edits and faults go on.")
    parser.add_argument("--quiet", action="store_true", help="Do not tell the faults.")
    parser.add_argument("--keep", action="store_true", help="Keep data and logs of a run that passed, too.")
    options = parser.parse_args()
    started = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"{time.monotonic() - started:6.1f}  {text}\n")

    seed = options.seed or str(random.randrange(1_000_000))
    result = run(seed, options.seconds, tell)
    for complaint in result.complaints:
        sys.stderr.write(f"torture: {complaint}\n")
    if result.passed and not options.keep:
        remove(result.directory)
    else:
        sys.stderr.write(f"torture: data and logs are in {result.directory}\n")
    sys.stdout.write(f"{result.line()}\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
