"""`forget`: remove an item from everything of ours."""

from __future__ import annotations

from dataclasses import asdict

import typer

from reindexer import audit, wiring
from reindexer.cli.output import JSON, TAKES_DASHES, report
from reindexer.cli.status import database
from reindexer.index.forget import forget as forget_item
from reindexer.settings import Settings


def forget(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("forget", context_settings=TAKES_DASHES)
    def _forget(
        source: str = typer.Argument(help="Name of the source."),
        item_id: str = typer.Argument(metavar="ID", help="The row's key, as `why` takes it."),
        as_json: bool = JSON,
    ) -> None:
        """Remove an item whose row is gone from everything: points of all generations, records, reasons of failure."""
        settings = Settings.load()
        with database(settings) as connection:
            done = forget_item(
                connection, wiring.index(settings), source, item_id, who=audit.of_command(),
                policy=settings.retry_policy, lease_s=settings.lease_s,
            )  # fmt: skip
        report(asdict(done), as_json=as_json)
