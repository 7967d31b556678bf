"""Backfills from the command line: start one, and follow it or let it run."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from reindexer import audit, wiring
from reindexer.backfills import runs
from reindexer.backfills.runs import Run, RunConflict
from reindexer.cli.output import Failed, report
from reindexer.core.errors import UsageError
from reindexer.monitoring.status import listener_state
from reindexer.postgres.connect import Connection, Postgres
from reindexer.postgres.schema import require_schema
from reindexer.settings import Settings
from reindexer.sources.store import find_source

LOOK_S = 0.25
LINE_S = 5.0
"""The interval between two lines of progress if there is no terminal, in seconds."""


def backfill(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("backfill")
    def _backfill(
        source: str = typer.Argument(help="A source; `reindexer status` names them."),
        where: str | None = typer.Option(None, help="Only these rows: a boolean SQL expression over the columns."),
        force: bool = typer.Option(False, "--force", help="Embed anew although the text is unchanged."),
        max_usd: float | None = typer.Option(None, "--max-usd", min=0, help="What it may cost; then its items wait."),
        detach: bool = typer.Option(False, "--detach", help="Start it and return at once."),
        watch: bool = typer.Option(False, "--watch", help="Follow the one that is open."),
        pause: bool = typer.Option(False, "--pause", help="Queue no more items; those that are queued go on."),
        resume: bool = typer.Option(False, "--resume", help="Go on after a pause."),
        cancel: bool = typer.Option(False, "--cancel", help="End the one that is open."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Rebuild all items of a source, or some. Ctrl-C leaves it running; the listener goes on with it."""
        acts = {"watch": watch, "pause": pause, "resume": resume, "cancel": cancel}
        chosen = [name for name, wanted in acts.items() if wanted]
        if len(chosen) > 1 or (chosen and (where is not None or force or detach or max_usd is not None)):
            raise UsageError(f"--{chosen[0]} goes alone: it is about the backfill that is open")
        with closing(wiring.postgres(Settings.load(), "backfill")) as postgres:
            with postgres.connection() as connection:
                require_schema(connection)
                run = (
                    _act(connection, source, chosen[0]) if chosen else _start(connection, source, where, force, max_usd)
                )
                if run.is_open and listener_state(connection) == "absent":
                    sys.stderr.write("no listener runs: this goes on when one does (python -m reindexer.listen)\n")
            if run.is_open and not detach and chosen in ([], ["watch"]):
                run = follow(postgres, run)
        _tell(run, as_json)


def _start(connection: Connection, source: str, where: str | None, force: bool, max_usd: float | None) -> Run:
    found = find_source(connection, source)
    try:
        return runs.start(connection, found, where=where, force=force, who=audit.of_command(), max_usd=max_usd)
    except RunConflict as exc:
        raise Failed(f"{exc}: reindexer backfill {source} --watch, or --cancel") from exc


def _act(connection: Connection, source: str, act: str) -> Run:
    run = runs.open_backfill(connection, source)
    if run is None:
        raise Failed(f"no backfill of {source!r} is open")
    if act == "watch":
        return runs.get(connection, run.id)
    acts = {"pause": runs.pause, "resume": runs.resume, "cancel": runs.cancel}
    return acts[act](connection, run.id, who=audit.of_command())


def follow(postgres: Postgres, run: Run) -> Run:
    """Show the progress of a run until it ends. Ctrl-C leaves it running."""
    with _display() as show, _ctrl_c() as left:
        while run.is_open and not left.is_set():
            show.update(run)
            left.wait(LOOK_S)
            with postgres.connection() as connection:
                run = runs.get(connection, run.id)
        show.update(run)
    if run.is_open:
        word = "rebuild" if run.kind == "rebuild" else "backfill"
        sys.stderr.write(
            f"\n{word} {run.id} goes on; watch it: reindexer {word} {run.source} --watch, "
            f"end it: reindexer {word} {run.source} --cancel\n"
        )
        raise typer.Exit(130)
    return run


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, for the loop to check: an exception could be raised in a callback that
    swallows it. The second Ctrl-C interrupts."""
    left = threading.Event()

    def leave(*_: object) -> None:
        left.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield left
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(run: Run, as_json: bool) -> None:
    if as_json:
        report(asdict(run), as_json=True)
    elif run.is_open:
        sys.stdout.write(f"backfill {run.id} of {run.source} is {run.state}\n")
    else:
        sys.stdout.write(f"backfill {run.id} of {run.source} {run.state}: {run.done} done, {run.failed} failed\n")
    if run.state == "failed":
        raise Failed(f"backfill {run.id} failed: {run.error}")


class _Display:
    """A progress bar on a terminal, else a line every few seconds."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._next_line = 0.0

    def update(self, run: Run) -> None:
        """Show the run's progress."""
        if self._progress is None:
            self._line(run)
            return
        if self._task is None:
            self._task = self._progress.add_task(_name(run), total=run.total, pace="")
        self._progress.update(
            self._task, description=_name(run), total=run.total, completed=run.done, pace=_throttle(run), refresh=True
        )

    def _line(self, run: Run) -> None:
        if run.is_open and time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + LINE_S
        total = "?" if run.total is None else f"{'about ' if run.total_is_estimate else ''}{run.total}"
        sys.stderr.write(", ".join(filter(None, (f"{_name(run)}: {run.done} of {total}", _throttle(run)))) + "\n")
        sys.stderr.flush()


@contextmanager
def _display() -> Iterator[_Display]:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Display(None)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield _Display(progress)


def _name(run: Run) -> str:
    return f"{run.source} ({run.state})" if run.state != "running" else run.source


def _throttle(run: Run) -> str:
    parts = [
        f"{run.rate:.0f}/s" if run.rate else "",
        f"{_clock(run.eta_s)} left" if run.eta_s is not None and run.is_open else "",
        f"{run.failed} failed" if run.failed else "",
        f"waits: {run.error}" if run.error and run.is_open else "",
    ]
    return ", ".join(filter(None, parts))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
