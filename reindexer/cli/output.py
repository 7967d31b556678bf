"""What all commands share: common options, reports, and failure."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

debug_wanted: list[bool] = []

JSON = typer.Option(False, "--json", help="Print one JSON object.")


TAKES_DASHES = {"ignore_unknown_options": True}
"""For a command whose argument may begin with a dash: a negative key, "-40 degrees"."""

LINE_S = 5.0
"""The interval between two lines of progress if there is no terminal, in seconds."""


class Failed(Exception):
    """A command could not do what it was asked; the text is one line for the user."""


def require_yes(question: str, *, yes: bool, otherwise: str, err: bool = False) -> None:
    """Ask, unless `yes`. Raises Failed, which tells `otherwise`, if the answer is no or there is no terminal to ask at.

    `err`: ask on standard error, because standard output is for programs.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failed(f"{otherwise}; if that is meant, say --yes: there is no terminal to ask at")
    if not typer.confirm(question, err=err):
        raise Failed(otherwise)


def report(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print facts: one JSON object, or one line per fact. A line for people tells nothing where there is nothing."""
    if as_json:
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
        return
    told = {name: value for name, value in facts.items() if value is not None and value not in ([], {})}
    width = max(map(len, told), default=0)
    for name, value in told.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def rows(titles: Sequence[str], lines: Iterable[Sequence[str]], *, whole: Collection[str] = ()) -> None:
    """Print a table on a terminal. The columns `whole` are neither cut nor folded while there is room.

    To a file or a pipe it writes one line per row, with tabs between the values and no titles.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        for line in lines:
            sys.stdout.write("\t".join(map(on_one_line, line)) + "\n")
        return
    lines = list(lines)
    table = Table()
    for place, title in enumerate(titles):
        width = max((len(line[place]) for line in lines), default=0) if title in whole else None
        table.add_column(title, overflow="fold", min_width=width)
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)


def on_one_line(text: str) -> str:
    """The text with line breaks and tabs escaped as `\\n` and `\\t`, as in JSON."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=False)[1:-1]


@contextmanager
def progress_line() -> Iterator[Callable[[str, int], None]]:
    """Yields a function of a stage and its count: updates one line on a terminal, else writes one every `LINE_S`."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda stage, done: status.update(f"{stage}: {done:,}")
        return
    next_line = time.monotonic() + LINE_S

    def tell(stage: str, done: int) -> None:
        nonlocal next_line
        if time.monotonic() > next_line:
            next_line = time.monotonic() + LINE_S
            sys.stderr.write(f"{stage}: {done}\n")
            sys.stderr.flush()

    yield tell
