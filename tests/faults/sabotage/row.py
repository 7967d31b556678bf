"""What a row of the table is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One mechanism, taken away by replacing text, so that what remains is a program that runs.

    `guard` names the lines that a comment `guard NAME` marks, wherever they stand. In each of them `old` begins once, and
    becomes `new`; `test` has to notice. Of several lines, each is told without the indentation of the first.
    """

    mechanism: str
    guard: str
    old: str
    new: str
    test: str
    fails_with: str = ""
    """Words of a server's error by which the test may fail, rather than by an assertion."""
    alone: bool = False
    """The test measures time: it runs when the others are done, with nothing beside it."""
