"""`dead-letters` and `audit`: which items failed and why, their replay, and who did what."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum

import typer

from reindexer import audit
from reindexer.cli.output import JSON, progress_line, report, rows
from reindexer.cli.status import database
from reindexer.queue import dead_letters
from reindexer.settings import Settings

LASTS = "when replayed: its cause lasts"
"""When an item is retried whose cause does not pass by itself."""


class Act(StrEnum):
    """What to do with dead letters."""

    LIST = "list"
    REPLAY = "replay"


def letters(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("dead-letters")
    def _dead_letters(
        act: Act = typer.Argument(Act.LIST, help="Tell them, or try them again."),
        source: str | None = typer.Option(None, "--source", help="Of this source only."),
        item: str | None = typer.Option(None, "--item", metavar="ID", help="This one only."),
        error: str | None = typer.Option(None, "--error", metavar="TEXT", help="Only those whose reason holds this."),
        limit: int | None = typer.Option(None, "--limit", min=1, help="At most so many; list: 50, replay: all."),
        as_json: bool = JSON,
    ) -> None:
        """Items that failed, why, and whether they heal by themselves; `replay` makes them due again."""
        with database(Settings.load()) as connection:
            which = dead_letters.which(connection, source, item, error)
            if act is Act.REPLAY:
                with progress_line() as progress:
                    replayed = dead_letters.replay(
                        connection, which, who=audit.of_command(), limit=limit,
                        progress=lambda done: progress("replayed", done),
                    )  # fmt: skip
                report({"replayed": replayed}, as_json=as_json)
                return
            found, total = dead_letters.page(connection, which, limit or 50), dead_letters.count(connection, which)
        if as_json:
            report({"dead_letters": [asdict(each) for each in found], "total": total}, as_json=True)
            return
        lines = [
            (
                each.source, each.item_id, str(each.attempts), f"{each.failed_at:%Y-%m-%d %H:%M:%S}",
                f"{each.heals_at:%Y-%m-%d %H:%M:%S}" if each.heals_at else LASTS, each.error or "",
            )
            for each in found
        ]  # fmt: skip
        rows(("source", "item", "attempts", "failed", "tried again", "why"), lines, whole=["source", "item"])
        sys.stderr.write(f"{len(found)} of {total}\n")

    @app.command("audit")
    def _audit(
        source: str | None = typer.Option(None, "--source", help="Of this source only."),
        limit: int = typer.Option(50, "--limit", min=1, help="At most so many, the newest first."),
        as_json: bool = JSON,
    ) -> None:
        """Who did what, and when: bulk requests, replays, pauses, backfills, repairs, by API and command line."""
        with database(Settings.load()) as connection:
            entries = audit.recent(connection, source=source, limit=limit)
        if as_json:
            report({"audit": [asdict(each) for each in entries]}, as_json=True)
            return
        lines = [
            (
                f"{each.at:%Y-%m-%d %H:%M:%S}", each.who, each.action, each.source or "",
                ", ".join(f"{name}={value}" for name, value in each.details.items() if value is not None),
            )
            for each in entries
        ]  # fmt: skip
        rows(("when", "who", "action", "source", "details"), lines, whole=["when", "source"])
