"""`python -m tests.faults.sabotage [WORDS]`: exit code 1 if any mechanism can be taken away without its test noticing."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence

from tests.faults.sabotage.row import Sabotage
from tests.faults.sabotage.run import Verdict, chosen, workshop
from tests.faults.sabotage.table import TABLE

AT_ONCE = 2


def main(only: str) -> int:
    """Run the rows, print a line for each and a sum."""
    started = time.monotonic()
    wanted = chosen(TABLE, only)
    verdicts = judge([row for row in wanted if not row.alone], AT_ONCE)
    verdicts += judge([row for row in wanted if row.alone], 1)
    bad = len(wanted) - sum(not verdict.problem for verdict in verdicts)
    print(
        f"sabotage: mechanisms={len(wanted)} noticed={len(wanted) - bad} unnoticed={bad} in {time.monotonic() - started:.0f} s"
    )
    return 1 if bad or not wanted else 0


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


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
