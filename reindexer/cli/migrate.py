"""Commands that prepare a database."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import typer

from reindexer.cli.output import JSON, Failed, report, require_yes
from reindexer.cli.plan import made, tell
from reindexer.cli.redefine import tell_advice
from reindexer.core.errors import UsageError
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.planning.survey import Options
from reindexer.postgres.connect import connect, describe
from reindexer.postgres.namesake import trap
from reindexer.postgres.schema import REVISION, revision
from reindexer.settings import Settings
from reindexer.sources.attach import Attached
from reindexer.sources.store import all_sources
from reindexer.sources_file.read import SourcesFile, read_sources


def setup(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("migrate")
    def _migrate(
        dry_run: bool = typer.Option(False, "--dry-run", help="Tell what would be done, and do nothing."),
        remove: bool = typer.Option(False, "--uninstall", help="Take everything of ours out of the database instead."),
        with_context_items: bool = typer.Option(
            False, "--with-context-items", help="Make the built-in table as well, and attach it."
        ),
        yes: bool = typer.Option(False, "--yes", help="Do not ask before --uninstall."),
        as_json: bool = JSON,
    ) -> None:
        """Bring the database to this version: schema, sources of the file, triggers, first fill. Repeatable."""
        from reindexer.migrate import migrate, preview, uninstall  # Alembic takes a third of a second to import

        settings = Settings.load()
        url = settings.require_database_url()
        if remove:
            if dry_run:
                raise UsageError("--dry-run tells what migrate would do; it can't be combined with --uninstall")
            question = f"Drop the schema reindexer and its triggers from {describe(url)}? Your tables stay as they are."
            require_yes(question, yes=yes, otherwise="nothing was changed", err=as_json)
            others = uninstall(url)
            left = f" and the schema, which holds what is not ours: {', '.join(others)}" if others else ""
            report({"reindexer": f"uninstalled; Qdrant's collections are left{left}"}, as_json=as_json)
            return
        file = read_sources(settings.sources, index=settings.index)
        if dry_run:
            if _is_older(url):
                told = preview(url, file, with_context_items=with_context_items)
                report(told | _unnamed(told, file), as_json=as_json)
                return
            found = made(settings, Options(with_context_items=with_context_items))
            tell(found, found.as_document(), as_json=as_json)
            return
        _warn_of_namesake(url)
        done = migrate(url, file, with_context_items=with_context_items)
        states = {each.source: _state(each) for each in done}
        if with_context_items and CONTEXT_ITEMS.name not in states:
            states[CONTEXT_ITEMS.name] = "not attached: another source follows its table, or has its name"
        with connect(url, application_name="reindexer migrate") as connection:
            tell_advice(settings, all_sources(connection))
        report(states | _unnamed(states, file), as_json=as_json)
        if not states and not as_json:
            typer.echo(
                "the schema is up to date; no table is kept indexed yet: reindexer attach NAME --table T --text COLUMNS"
            )
        if problems := [each.source for each in done if each.problem]:
            raise Failed(
                f"not all sources can be worked on: {', '.join(problems)}; mend them, or, if one is not wanted any "
                "more, `reindexer detach` it"
            )


def _is_older(url: str) -> bool:
    """Whether the schema is of an older version: only that can be told, and what follows from it."""
    with connect(url, application_name="reindexer migrate") as connection:
        found = revision(connection)
    return found is not None and found < REVISION


def _warn_of_namesake(url: str) -> None:
    """Warn of a role named like our schema; if `migrate` refuses to run for it, its error says it."""
    with connect(url, application_name="reindexer migrate") as connection:
        danger = trap(connection)
        if danger and not (danger.is_us and revision(connection) is None):
            sys.stderr.write(f"reindexer: warning: {danger}\n")


def _state(done: Attached) -> str:
    if done.problem:
        return done.problem
    if done.note:
        return done.note
    word = "changed" if done.redefined else "attached"
    return f"{word}; a fill is started" if done.changed else "up to date"


def _unnamed(states: Mapping[str, str], file: SourcesFile | None) -> dict[str, str]:
    """The attached sources that the file does not name, with the note that they stay."""
    if file is None:
        return {}
    others = {name for name in states if not name.startswith("(")} - file.sources.keys() - {CONTEXT_ITEMS.name}
    return {
        name: f"{states[name]}; it is not in {file.document.name}: add it, or `reindexer detach {name}`"
        for name in sorted(others)
    }
