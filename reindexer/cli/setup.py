"""Commands that prepare a database."""

from __future__ import annotations

import typer

from reindexer.cli.run import JSON, Failed, report
from reindexer.postgres.connect import describe
from reindexer.settings import Settings


def setup(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("migrate")
    def _migrate(
        remove: bool = typer.Option(False, "--uninstall", help="Take everything of ours out of the database instead."),
        yes: bool = typer.Option(False, "--yes", help="Do not ask before --uninstall."),
        as_json: bool = JSON,
    ) -> None:
        """Bring the database to this version: schema, triggers of every source, first fill. Safe to repeat."""
        from reindexer.migrate import migrate, uninstall  # Alembic takes a third of a second to import

        url = Settings.load().require_database_url()
        if remove:
            question = f"Drop the schema reindexer and its triggers from {describe(url)}? Your tables stay as they are."
            if not yes and not typer.confirm(question):
                raise Failed("nothing was changed")
            uninstall(url)
            report({"reindexer": "uninstalled; Qdrant's collections are left"}, as_json=as_json)
            return
        done = migrate(url)
        states = {each.source: "attached; a fill is started" if each.changed else "up to date" for each in done}
        problems = {each.source: each.problem for each in done if each.problem}
        report(states | problems, as_json=as_json)
        if problems:
            raise Failed(f"not all sources are attached: {', '.join(problems)}")
