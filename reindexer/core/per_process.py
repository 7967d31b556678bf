"""A value of which each process has its own: a fork must not use its parent's connections, threads and locks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_making = threading.RLock()
"""Held while a value is made. Reentrant, because one value may need another."""


def _begin_in_fork() -> None:
    global _making  # noqa: PLW0603
    _making = threading.RLock()  # a thread of the parent, which does not exist here, may have held the other


# guard fork-own-lock
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_begin_in_fork)


class PerProcess(Generic[T]):
    """Makes the value at its first use in a process. Safe to share between threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._held: tuple[int, T] | None = None

    def get(self) -> T:
        """Return this process's value."""
        held = self._held
        if held is not None and held[0] == os.getpid():  # guard fork-own-value
            return held[1]
        with _making:
            if (value := self.peek()) is None:
                value = self._make()
                self._held = os.getpid(), value
            return value

    def peek(self) -> T | None:
        """Return this process's value, or None if none is made yet."""
        held = self._held
        return held[1] if held is not None and held[0] == os.getpid() else None

    def drop(self) -> T | None:
        """Return this process's value, if any, and forget it. The next use makes another."""
        with _making:
            value, self._held = self.peek(), None
        return value
