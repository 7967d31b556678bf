"""Commands that say which tables are kept indexed: `attach`, `detach`."""

from __future__ import annotations

import sys

import typer

from reindexer import wiring
from reindexer.cli.look import database
from reindexer.cli.run import JSON, Failed, report
from reindexer.core.errors import UsageError
from reindexer.core.profile import Profile
from reindexer.core.source import Source
from reindexer.flow import audit
from reindexer.flow.attach import all_sources, attach, find_source
from reindexer.flow.definition import Wanted, check, define
from reindexer.flow.detach import detach
from reindexer.flow.search import collection_of
from reindexer.postgres import catalog, triggers
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.schema import require_schema
from reindexer.settings import Settings
from reindexer.sources_file.document import DEFAULT
from reindexer.sources_file.kinds import split_names
from reindexer.sources_file.read import read_sources

_COLUMNS = "Columns, with commas between them; may be given several times."


def attachments(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("attach")
    def _attach(
        name: str = typer.Argument(help="What the source shall be called."),
        table: str = typer.Option(..., "--table", help="The table, as in SQL: shop.products."),
        text: list[str] = typer.Option(..., "--text", help=f"What is embedded. {_COLUMNS}"),
        key: list[str] = typer.Option([], "--key", help=f"What names a row; the primary key if not given. {_COLUMNS}"),
        payload: list[str] = typer.Option([], "--payload", help=f"What is stored beside the vector. {_COLUMNS}"),
        template: str | None = typer.Option(None, "--template", help="How the text is made: '{name}\\n{description}'."),
        where: str | None = typer.Option(
            None, "--where", help="SQL condition on the row's columns; other rows are no items."
        ),
        alias: str | None = typer.Option(None, "--alias", help="The alias in Qdrant; the source's name if not given."),
        chunk_tokens: int | None = typer.Option(
            None, "--chunk-tokens", help="Longest chunk of a text; as long as the model takes if not given."
        ),
        chunk_overlap: int = typer.Option(
            0, "--chunk-overlap", help="Tokens of a chunk that the next one begins with."
        ),
        tenant: str | None = typer.Option(
            None, "--tenant", help="Payload column by which Qdrant keeps a tenant's points together."
        ),
        profile: str | None = typer.Option(None, "--profile", help="A profile of the sources file, reindexer.toml."),
        dry_run: bool = typer.Option(False, "--dry-run", help="Print the SQL and do nothing."),
        as_json: bool = JSON,
    ) -> None:
        """Keep a table indexed. Run it again with other options to change the definition."""
        settings = Settings.load()
        wanted = Wanted(
            name, table, split_names(text), split_names(key), split_names(payload), template, where, alias,
            chunk_tokens, chunk_overlap, tenant, _profile(settings, profile),
        )  # fmt: skip
        with database(settings) as connection:
            source = define(connection, wanted)
            if dry_run:
                check(connection, source)
                sys.stdout.write(ddl(connection, source))
                return
            known = {each.name: each for each in all_sources(connection)}
            with changing_triggers(connection):
                require_schema(connection)
                changed = attach(connection, source).changed
            if changed:
                action = {"table": f"{source.table_schema}.{source.table_name}", "new": name not in known}
                audit.note(connection, audit.of_command(), "attach", name, action)
        done = "changed" if name in known else "attached"
        report({name: f"{done}; a fill is started" if changed else "up to date"}, as_json=as_json)

    @app.command("detach")
    def _detach(
        name: str = typer.Argument(help="Name of the source."),
        drop: bool | None = typer.Option(
            None,
            "--drop-collection/--keep-collection",
            help="What becomes of its points in Qdrant; asked if not given.",
        ),
        as_json: bool = JSON,
    ) -> None:
        """Stop indexing a table. The table stays as it was."""
        settings = Settings.load()
        with database(settings) as connection:
            source = find_source(connection, name)
            collection = collection_of(connection, source)
            if drop is None:
                if not sys.stdin.isatty():
                    raise Failed("say --drop-collection or --keep-collection; nothing was changed")
                drop = typer.confirm(f"Drop the collection {collection.name} from Qdrant as well?")
            items = detach(connection, source, who=audit.of_command(), lease_s=settings.lease_s)
            if drop:
                wiring.index(settings).drop(collection)
        left = "dropped" if drop else "left in Qdrant"
        report({name: f"detached, {items} items; its collection {collection.name} is {left}"}, as_json=as_json)


def ddl(connection: Connection, source: Source) -> str:
    """What attaching would execute on the user's side, as SQL."""
    statements = [function.statement for function in triggers.functions(connection, source)]
    for table in catalog.relations(connection, source):
        statements += triggers.trigger_statements(source, table)
    return "".join(f"{statement.as_string(connection).strip()};\n\n" for statement in statements)


def _profile(settings: Settings, name: str | None) -> Profile:
    if name is None:
        return Profile()
    file = read_sources(settings.sources)
    if file is None:
        raise UsageError(
            f"--profile {name}: there is no {DEFAULT} here; write the profile into it, see docs/sources.md"
        )
    return file.profile(name)
