"""Commands that decide which tables are indexed: `attach`, `detach`."""

from __future__ import annotations

import sys

import typer

from reindexer import audit, wiring
from reindexer.cli.output import JSON, Failed, report
from reindexer.cli.redefine import as_facts, confirm, in_words, tell_advice
from reindexer.cli.status import database
from reindexer.core.errors import TransientError, UsageError
from reindexer.core.profile import Profile
from reindexer.core.source import Source
from reindexer.core.wording import counted
from reindexer.index.search import collections_of
from reindexer.postgres import catalog, triggers
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.sources.change import apply, propose
from reindexer.sources.detach import detach
from reindexer.sources.relations import RelatedTable
from reindexer.sources.store import find_source
from reindexer.sources_file.document import DEFAULT
from reindexer.sources_file.kinds import split_names
from reindexer.sources_file.read import read_sources

_COLUMNS = "Columns, with commas between them; may be given several times."


def attachments(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("attach")
    def _attach(
        name: str = typer.Argument(help="What the source shall be called."),
        table: str | None = typer.Option(None, "--table", help="The table, as in SQL: shop.products."),
        text: list[str] = typer.Option([], "--text", help=f"What is embedded. {_COLUMNS}"),
        key: list[str] = typer.Option([], "--key", help=f"What names a row; the primary key if not given. {_COLUMNS}"),
        payload: list[str] = typer.Option([], "--payload", help=f"What is stored beside the vector. {_COLUMNS}"),
        related: list[str] = typer.Option(
            [],
            "--related",
            help="A related table under a name: author=shop.authors, or tags=shop.tags:shop.book_tags "
            "through a link table; its columns are author.name, … May be given several times.",
        ),
        template: str | None = typer.Option(None, "--template", help="How the text is made: '{name}\\n{description}'."),
        where: str | None = typer.Option(
            None, "--where", help="SQL condition on the row's columns; other rows are no items."
        ),
        alias: str | None = typer.Option(None, "--alias", help="The alias in Qdrant; the source's name if not given."),
        chunk_tokens: int | None = typer.Option(
            None, "--chunk-tokens", help="Longest chunk of a text; as long as the model takes if not given."
        ),
        chunk_overlap: int | None = typer.Option(
            None, "--chunk-overlap", help="Tokens of a chunk that the next one begins with; 0 if not given."
        ),
        chunker: str | None = typer.Option(
            None,
            "--chunker",
            help="What cuts long texts: `text`, `markdown`, `html`, `code`, `code-LANGUAGE`, or the chunker of a "
            "package; `text` if not given.",
        ),
        chunk_header: str | None = typer.Option(
            None, "--chunk-header", help="Embedded in front of each chunk: '{title} › {headings}'."
        ),
        store_text: str | None = typer.Option(
            None, "--store-text", help="Key under which the payload of a point holds its chunk's text."
        ),
        tenant: str | None = typer.Option(
            None, "--tenant", help="Payload column by which Qdrant keeps a tenant's points together."
        ),
        keywords: bool | None = typer.Option(
            None, "--keywords/--no-keywords", help="Find rows by their words as well as by their meaning."
        ),
        language: str | None = typer.Option(
            None, "--language", help="Of the words: english if not given; `none` takes them as they stand."
        ),
        stop_words: list[str] = typer.Option(
            [], "--stop-words", help="Words to leave out beside those of the language, with commas between them."
        ),
        stemmer: bool | None = typer.Option(
            None, "--stemmer/--no-stemmer", help="Whether words are reduced to their stems; they are if not given."
        ),
        profile: str | None = typer.Option(None, "--profile", help="A profile of the sources file, reindexer.toml."),
        unset: list[str] = typer.Option(
            [], "--unset", help="Take away what was given before: where, payload, profile.model, …"
        ),
        yes: bool = typer.Option(False, "--yes", help="Do not ask before rows enter the index or leave it."),
        dry_run: bool = typer.Option(False, "--dry-run", help="Tell what would be changed, and do nothing."),
        as_sql: bool = typer.Option(False, "--sql", help="Print the SQL of the triggers, and do nothing."),
        as_json: bool = JSON,
    ) -> None:
        """Keep a table indexed; run again, change what is given of its definition, and nothing else."""
        settings = Settings.load()
        given = {
            "table": table, "text": _names("--text", text), "key": _names("--key", key),
            "payload": _names("--payload", payload), "related": _relations(related),
            "template": template, "where": where, "alias": alias,
            "chunk_tokens": chunk_tokens, "chunk_overlap": chunk_overlap, "chunker": chunker,
            "chunk_header": chunk_header, "store_text": store_text, "tenant": tenant, "keywords": keywords,
            "language": language, "stop_words": _names("--stop-words", stop_words), "stemmer": stemmer,
            "profile": _profile(settings, profile),
        }  # fmt: skip
        with database(settings) as connection:
            wanted = propose(connection, name, {k: v for k, v in given.items() if v is not None}, unset)
            if as_sql:
                sys.stdout.write(ddl(connection, wanted.after))
                return
            if dry_run:
                report(as_facts(wanted) if as_json else in_words(wanted), as_json=as_json)
                return
            if wanted.before is not None:
                confirm(wanted, yes=yes, told=sys.stderr if as_json else sys.stdout)
            changed = apply(connection, wanted, who=audit.of_command()).changed
        tell_advice(settings, [wanted.after])
        done = "attached" if wanted.before is None else "changed"
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
            collections = collections_of(connection, source)
            collection = collections[-1]
            if drop is None:
                if not sys.stdin.isatty():
                    raise Failed("say --drop-collection or --keep-collection; nothing was changed")
                drop = typer.confirm(f"Drop the collection {collection.name} from Qdrant as well?")
            items = detach(connection, source, who=audit.of_command(), lease_s=settings.lease_s)
            if drop:
                try:
                    for each in collections:
                        wiring.index(settings).drop(each)
                except TransientError as exc:
                    raise Failed(
                        f"{name} is detached ({counted(items, 'item')}); its collection {collection.name} is left, "
                        f"to be dropped by hand: {exc}"
                    ) from exc
        left = "dropped" if drop else "left in Qdrant"
        report(
            {name: f"detached, {counted(items, 'item')}; its collection {collection.name} is {left}"}, as_json=as_json
        )


def ddl(connection: Connection, source: Source) -> str:
    """The SQL that attaching would execute on the user's tables."""
    statements = [function.statement for function in triggers.functions(connection, source)]
    for table in catalog.relations(connection, source):
        statements += triggers.trigger_statements(table)
    return "".join(f"{statement.as_string(connection).strip()};\n\n" for statement in statements)


def _names(option: str, given: list[str]) -> tuple[str, ...] | None:
    """The names in an option's values; None: the option was not given."""
    names = split_names(given)
    if given and not names:
        raise UsageError(f"{option} names nothing; to take away what was given before, say --unset {option[2:]}")
    return names or None


def _relations(given: list[str]) -> tuple[RelatedTable, ...] | None:
    """The relations in the option's values, NAME=TABLE[:LINK TABLE]; None: the option was not given."""
    found = []
    for each in given:
        name, _, tables = each.partition("=")
        table, colon, through = (part.strip() for part in tables.partition(":"))
        if not table or (colon and not through):
            raise UsageError(
                f"--related {each}: write NAME=TABLE, or NAME=TABLE:LINK_TABLE; more is said in the sources file"
            )
        found.append(RelatedTable(name.strip(), table, through=through or None))
    return tuple(found) or None


def _profile(settings: Settings, name: str | None) -> Profile | None:
    if name is None:
        return None
    file = read_sources(settings.sources, index=settings.index)
    if file is None:
        raise UsageError(
            f"--profile {name}: there is no {DEFAULT} here; write the profile into it, see docs/sources.md"
        )
    return file.profile(name)
