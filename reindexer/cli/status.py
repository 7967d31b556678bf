"""Read-only commands: `status`, `why`, `sources`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from reindexer import wiring
from reindexer.cli.output import JSON, TAKES_DASHES, Failed, report, rows
from reindexer.core.redefinition import described
from reindexer.core.source import Source
from reindexer.monitoring.status import PastRequest, SourceStatus, Status, status, why
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.schema import require_schema
from reindexer.settings import Settings
from reindexer.sources.store import all_sources, find_source

WATCH_S = 1.0


@contextmanager
def database(settings: Settings) -> Iterator[Connection]:
    """A connection to a migrated database."""
    with connect(settings.require_database_url(), application_name="reindexer command") as connection:
        require_schema(connection)
        yield connection


def look(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("status")
    def _status(watch: bool = typer.Option(False, "--watch", help="Go on until Ctrl-C."), as_json: bool = JSON) -> None:
        """The state of everything: what waits, what failed, who works."""
        settings = Settings.load()
        with database(settings) as connection:
            if as_json:
                limits = wiring.rate_limits(settings, all_sources(connection))
                told = {"rate_limit": {name: asdict(each) for name, each in limits.items()}}
                report(asdict(status(connection)) | told, as_json=True)
            elif not watch:
                _show(status(connection))
            else:
                with Live(_table(status(connection)), auto_refresh=False) as live:
                    while True:
                        live.update(_table(status(connection)), refresh=True)
                        time.sleep(WATCH_S)

    @app.command("why", context_settings=TAKES_DASHES)
    def _why(
        source: str = typer.Argument(help="Name of the source."),
        item_id: str = typer.Argument(metavar="ID", help="The row's key."),
        as_json: bool = JSON,
    ) -> None:
        """Everything that is known of one item: wanted, indexed, attempts, last error, what it waits for."""
        settings = Settings.load()
        with database(settings) as connection:
            there = find_source(connection, source)
            found = why(connection, there, item_id, wiring.embedder_of(settings))
        if found is None:
            raise Failed(f"{source} has no row {item_id!r}, and nothing is known of one")
        if as_json:
            report(asdict(found), as_json=True)
            return
        told = {name: value for name, value in asdict(found).items() if name != "history"}
        report(told | {"history": _of_requests(found.history)}, as_json=False)

    @app.command("sources")
    def _sources(as_json: bool = JSON) -> None:
        """The tables that are kept indexed."""
        with database(Settings.load()) as connection:
            sources = all_sources(connection)
        if as_json:
            report({source.name: _definition(source) for source in sources}, as_json=True)
            return
        rows(("source", "", ""), [line for source in sources for line in _facts(source)], whole=["source"])


_SEEN = ("read_by", "resolved_condition", "condition_objects")


def _definition(source: Source) -> dict[str, Any]:
    """The source's definition, without what the database tells of its table."""
    return {name: value for name, value in asdict(source).items() if name not in _SEEN}


def _of_requests(history: Sequence[PastRequest]) -> str:
    """One line per reindex request, newest first."""
    became = {None: "not answered yet", True: "SUCCESS", False: "FAILURE"}
    lines = [
        f"{each.created_at:%Y-%m-%d %H:%M:%S}  {each.task_id}  {became[each.succeeded]}"
        + (f": {each.error}" if each.error else "")
        for each in history
    ]
    return "\n  ".join(["", *lines]) if lines else "nobody asked for it by a task id"


def _facts(source: Source) -> Iterator[tuple[str, str, str]]:
    """A source's lines: its name, the key and the value."""
    for key, value in described(source).items():
        title = re.sub("[_.]", " ", key, count=1)
        shown = json.dumps(value) if isinstance(value, dict) else value
        yield source.name, title, ", ".join(shown) if isinstance(shown, list) else str(shown)


def _show(now: Status) -> None:
    """A table on a terminal, else one line per fact."""
    console = Console()
    if console.is_terminal:
        console.print(_table(now))
        return
    rows((), [(what, text) for what, text, _ in _lines(now)])


def _lines(now: Status) -> Iterator[tuple[str, str, bool]]:
    """Lines of a name, a value, and whether the value is bad."""
    for name, value in asdict(now).items():
        if name in ("sources", "breakers", "budgets", "events"):
            continue
        bad = bool(name in ("failed", "healing") and value) or value in ("absent", "missing", "disabled", "outdated")
        yield name, f"{value:.1f}" if isinstance(value, float) else str(value), bad or (name == "workers" and not value)
    for dependency, breaker in now.breakers.items():
        yield "breakers", f"{dependency}: {breaker.reason}", True
    if not now.breakers:
        yield "breakers", "none open", False
    for over in now.budgets:
        yield "budget", over, True
    for undelivered in now.events:
        yield "events", undelivered, True
    for name, source in now.sources.items():
        state = _state(now, source)
        yield f"source {name}", state, state not in ("at work", "paused")
        yield f"{name}: due, completed, failed", f"{source.due}, {source.completed}, {source.failed}", False
        if source.problem:
            yield f"{name}: problem", source.problem, True
        if source.triggers_wrong:
            yield f"{name}: triggers", source.triggers_wrong, True
        for each in source.beside:
            told = f"{each.state}, {each.due} due" + (f"; {each.problem}" if each.problem else "")
            yield f"{name}: generation {each.number}", told, bool(each.problem)


def _state(now: Status, source: SourceStatus) -> str:
    """Whether the source is worked on, and if not, why."""
    if source.paused:
        return "paused"
    if source.problem:
        return "has a problem"
    if now.listener == "absent":
        return "waits for a listener"
    return "at work" if now.workers else "waits for a worker"


def _table(now: Status) -> Table:
    table = Table("", "", show_header=False, title="reindexer")
    for what, text, bad in _lines(now):
        if what.startswith("source "):
            table.add_section()
        table.add_row(Text(what), Text(text, style="red" if bad else ""))
    return table
