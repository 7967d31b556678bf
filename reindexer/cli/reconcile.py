"""`reconcile`: compares a source's table with Qdrant itself, and repairs differences."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict

import typer

from reindexer import audit, wiring
from reindexer.cli.output import JSON, Failed, progress_line, report
from reindexer.cli.status import database
from reindexer.core.wording import counted
from reindexer.index import reconcile as flow
from reindexer.reconciling import sides_of, told
from reindexer.settings import Settings


def reconcile(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reconcile")
    def _reconcile(
        source: str = typer.Argument(help="Name of the source."),
        repair: bool = typer.Option(False, "--repair", help="Make everything due that differs; workers mend it."),
        max_deletions: int | None = typer.Option(
            None, min=0, help="With --repair: delete up to this many points. Without: 100, or 10 % of them."
        ),
        wait_s: float = typer.Option(
            30.0, "--wait", min=0, metavar="S", help="Look again for so many seconds at what is being worked on."
        ),
        generation: int | None = typer.Option(
            None, "--generation", help="Another generation than the one that searches use."
        ),
        as_json: bool = JSON,
    ) -> None:
        """Compare every row with Qdrant and every point with the table. Exit code 1 if they differ, and stay so."""
        settings, started = Settings.load(), time.monotonic()
        with database(settings) as connection:
            sides = sides_of(settings, connection, wiring.index(settings), source, generation)
            with progress_line() as progress, closing(flow.compare(sides, progress, wait_s=wait_s)) as findings:
                queued = None
                try:
                    if repair:
                        queued = flow.repair(sides, findings, who=audit.of_command(), max_deletions=max_deletions)
                finally:
                    report(asdict(told(source, findings, queued, time.monotonic() - started)), as_json=as_json)
        if findings.unsettled:
            are, they = ("is", "it is") if findings.unsettled == 1 else ("are", "they are")
            items = counted(findings.unsettled, "item")
            sys.stderr.write(f"{items} {are} being worked on: compare again when {they} through\n")
        if findings.differences and queued is None:
            raise Failed(f"{source} differs from the index; `reindexer reconcile {source} --repair` mends it")
        if findings.unreadable:
            one = f"reindexer why {source} {findings.unreadable_ids[0]!r}"
            raise Failed(f"{counted(findings.unreadable, 'row')} of {source} can't be read; `{one}` says why")
