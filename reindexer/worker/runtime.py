"""How a worker process sets its Python interpreter."""

from __future__ import annotations

import gc
import sys


def set_for_work() -> None:
    """For many objects that stay, and for threads that wait for each other. Of the whole process, and its forks."""
    # What is loaded by now stays: to look through it again and again took a sixth of a backfill's time.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    # Beside the threads of a backfill, one that serves an edit waits for its turn after each answer.
    sys.setswitchinterval(0.001)
