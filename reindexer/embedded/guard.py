"""Ends the embedded servers when the process that started them is gone, even by SIGKILL.

It runs as a script, with the standard library only. It reads lines `PID SIGNAL`: the process (leader of its own group)
and the signal that ends it. `PID 0` forgets the process. When the pipe ends, its writer has ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

GRACE_S = 8.0


def main() -> None:
    """Read until the pipe ends, then end the processes that are left."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    watched: dict[int, int] = {}
    for line in sys.stdin:
        pid, end = (int(word) for word in line.split())
        if end:
            watched[pid] = end
        else:
            watched.pop(pid, None)
    for pid, last in watched.items():
        _signal(pid, last)
    until = time.monotonic() + GRACE_S
    while any(_alive(pid) for pid in watched) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in watched:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, signum: int) -> None:
    """Signal the process; SIGKILL goes to its whole group."""
    with suppress(ProcessLookupError, PermissionError):
        (os.killpg if signum == signal.SIGKILL else os.kill)(pid, signum)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
