"""What a row of the table is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One mechanism, taken away by replacing text, so that what remains is a program that runs.

    `file` holds `old` as often as `times` says; all of it becomes `new`; `test` has to notice.
    """

    mechanism: str
    file: str
    old: str
    new: str
    test: str
    times: int = 1
    fails_with: str = ""
    """Words of a server's error by which the test may fail, rather than by an assertion."""
    alone: bool = False
    """The test measures time: it runs when the others are done, with nothing beside it."""
