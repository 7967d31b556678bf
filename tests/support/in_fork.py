"""What a forked process says: it goes on with the values, and without the threads, that its parent had."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

WITHIN_S = 5


def forked(says: Callable[[], object]) -> Callable[[], str]:
    """Begin in a fork. Returns a function that waits for what it says: a `repr`; empty if it fails or is too late."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's would go on with the tests, in the fork
            signal.alarm(WITHIN_S)
            os.write(write, repr(says()).encode())
        finally:
            os._exit(0)
    os.close(write)

    def said() -> str:
        os.waitpid(child, 0)
        with os.fdopen(read) as answer:
            return answer.read()

    return said


def in_fork(says: Callable[[], object]) -> str:
    """The same, waited for."""
    return forked(says)()
