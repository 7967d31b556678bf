"""What every command shares: its settings, the way it reports, and how it fails."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

debug_wanted: list[bool] = []

JSON = typer.Option(False, "--json", help="Print one JSON object.")


LINE_S = 5.0
"""Between two lines of progress where there is no terminal."""


class Failed(Exception):
    """A command could not do what it was asked; the text is one line for the user."""


def report(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print facts: one JSON object, or a line each."""
    if as_json:
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
        return
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")


@contextmanager
def progress_line() -> Iterator[Callable[[str, int], None]]:
    """To be told a stage and how far it is: a line that changes on a terminal, else one every few seconds."""
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
