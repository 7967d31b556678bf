"""Commands that stop and start work: `pause`, `resume`."""

from __future__ import annotations

import typer

from reindexer import audit
from reindexer.cli.output import JSON, report
from reindexer.cli.status import database
from reindexer.settings import Settings
from reindexer.sources.pause import set_paused

_SOURCE = typer.Argument(None, help="Name of a source; none: all of them.")


def control(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("pause")
    def _pause(source: str | None = _SOURCE, as_json: bool = JSON) -> None:
        """Stop work on a source, or on all. Changes are still recorded; nothing is lost."""
        _set(source, paused=True, as_json=as_json)

    @app.command("resume")
    def _resume(source: str | None = _SOURCE, as_json: bool = JSON) -> None:
        """Go on with a source, or with all."""
        _set(source, paused=False, as_json=as_json)


def _set(source: str | None, *, paused: bool, as_json: bool) -> None:
    with database(Settings.load()) as connection:
        names = set_paused(connection, source, paused=paused, who=audit.of_command())
    report(dict.fromkeys(names, "paused" if paused else "at work"), as_json=as_json)
