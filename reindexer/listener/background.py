"""What the leading listener does beside draining: a thread that takes one step again and again."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Self

import psycopg

from reindexer.core.errors import ReindexerError


class Background(ABC):
    """Steps while its context is entered. Of several listeners only the leader enters it. No drain waits for a step."""

    def __init__(self, name: str, again_s: float) -> None:
        """`again_s`: seconds until the next step after one that failed."""
        self._name = name
        self._again_s = again_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout=1)

    @abstractmethod
    def step(self) -> float:
        """Do it once. Returns the seconds until the next step. May raise errors of ours and of Postgres."""

    @abstractmethod
    def tell(self, error: Exception) -> None:
        """Log that a step failed, and that those before did not."""

    def wake(self) -> None:  # noqa: B027  most steps do not wait
        """End a wait within a step: the thread is to end."""

    def end(self) -> None:  # noqa: B027  most have nothing to end
        """The last act of the thread. May raise as a step does."""

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            try:
                wait_s = self.step()
                self._failing = False
            except (ReindexerError, psycopg.Error) as exc:
                if not self._failing:
                    self.tell(exc)
                self._failing, wait_s = True, self._again_s
        with suppress(ReindexerError, psycopg.Error):  # nobody is left to do it again
            self.end()
