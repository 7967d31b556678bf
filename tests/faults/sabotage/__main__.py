"""`python -m tests.faults.sabotage [WORDS]`: exit code 1 if any mechanism can be taken away without its test noticing.

A row that is not noticed beside another one is run once more by itself, and the sum tells how many those were.

`--part N/M` runs every M-th row, from the N-th (from 0) on: CI runs one part each time, by the number of its commits.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Sequence

from tests.faults.sabotage.row import Sabotage
from tests.faults.sabotage.run import Part, Verdict, chosen, workshop
from tests.faults.sabotage.table import TABLE

AT_ONCE = 2


def main(only: str, part: Part) -> int:
    """Run the rows, print a line for each and a sum."""
    started = time.monotonic()
    wanted = part.of(chosen(TABLE, only))
    verdicts = judge([row for row in wanted if not row.alone], AT_ONCE)
    verdicts += judge([row for row in wanted if row.alone], 1)
    again = [verdict.row for verdict in verdicts if verdict.problem]
    unnoticed = [verdict for verdict in judge(again, 1) if verdict.problem]
    print(
        f"sabotage: mechanisms={len(wanted)} noticed={len(wanted) - len(unnoticed)} unnoticed={len(unnoticed)}"
        f" judged_again={len(again)} in {time.monotonic() - started:.0f} s"
    )
    for row in again:  # the end of a long log is what is read of it
        print(f"judged again: {row.mechanism}")
    for verdict in unnoticed:
        tell(verdict)
    return 1 if unnoticed or not wanted else 0


def judge(wanted: Sequence[Sabotage], at_once: int) -> list[Verdict]:
    """Run these rows, and tell each."""
    rows: queue.SimpleQueue[Sabotage] = queue.SimpleQueue()
    for row in wanted:
        rows.put(row)
    verdicts: list[Verdict] = []

    def work() -> None:
        with workshop() as shop:
            while True:
                try:
                    row = rows.get_nowait()
                except queue.Empty:
                    return
                verdicts.append(shop.judge(row))
                tell(verdicts[-1])

    threads = [threading.Thread(target=work) for _ in range(min(at_once, len(wanted)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return verdicts


def tell(verdict: Verdict) -> None:
    """One line."""
    mark = "UNNOTICED" if verdict.problem else "noticed"
    row = verdict.row
    print(f"{mark:9} {verdict.took_s:5.1f} s  {row.mechanism}: {row.test.partition('::')[2]}", flush=True)
    print(f"{'':20}{verdict.problem or verdict.words}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sabotage", description="Take mechanisms away.")
    parser.add_argument("words", nargs="*", help="only rows whose mechanism or test has these words in it")
    parser.add_argument("--part", type=Part.read, default=Part(0, 1), help="N/M: every M-th row, from the N-th on")
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    sys.exit(main(" ".join(asked.words), asked.part))
