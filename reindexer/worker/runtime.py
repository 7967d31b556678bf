"""Settings of the Python interpreter in a worker process."""

from __future__ import annotations

import gc
import sys


def set_for_work() -> None:
    """Tune garbage collection and thread switching for this process and its forks."""
    # Objects loaded by now stay. Scanning them again and again took a sixth of a backfill's time.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    # With the default interval, a thread that serves an edit waits behind a backfill's threads after each answer.
    sys.setswitchinterval(0.001)
