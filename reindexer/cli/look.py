"""Commands that look: `status`, `why`, `sources`, `search`. They change nothing."""

from __future__ import annotations

import json
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
from reindexer.cli.run import JSON, Failed, report
from reindexer.core.filters import parse_words
from reindexer.core.source import Source
from reindexer.flow.attach import all_sources, find_source
from reindexer.flow.search import collection_of
from reindexer.flow.search import search as search_items
from reindexer.flow.status import Status, item, status
from reindexer.flow.vectors import recorded_recipe
from reindexer.postgres.catalog import payload_columns
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.schema import require_schema
from reindexer.settings import Settings

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
                Console().print(_table(status(connection)))
            else:
                with Live(_table(status(connection)), auto_refresh=False) as live:
                    while True:
                        live.update(_table(status(connection)), refresh=True)
                        time.sleep(WATCH_S)

    @app.command("why")
    def _why(
        source: str = typer.Argument(help="Name of the source."),
        item_id: str = typer.Argument(metavar="ID", help="The row's key."),
        as_json: bool = JSON,
    ) -> None:
        """Everything that is known of one item: wanted, indexed, attempts, last error, what it waits for."""
        settings = Settings.load()
        with database(settings) as connection:
            there = find_source(connection, source)
            recipe = recorded_recipe(connection, there, wiring.embedder_of(settings)(there))
            found = item(connection, there, item_id, recipe)
        if found is None:
            raise Failed(f"{source} has no row {item_id!r}, and nothing is known of one")
        report(asdict(found), as_json=as_json)

    @app.command("sources")
    def _sources(as_json: bool = JSON) -> None:
        """The tables that are kept indexed."""
        with database(Settings.load()) as connection:
            sources = all_sources(connection)
        if as_json:
            report({source.name: _definition(source) for source in sources}, as_json=True)
            return
        Console().print(_sources_table(sources))

    @app.command("search")
    def _search(
        source: str = typer.Argument(help="Name of the source."),
        query: str = typer.Argument(metavar="TEXT", help="What to look for."),
        limit: int = typer.Option(10, min=1, max=100, help="At most this many."),
        where: list[str] = typer.Option(
            [],
            "--filter",
            help="On a payload column: category=shoes, price>=10, color!=red; may be given several times.",
        ),
        as_json: bool = JSON,
    ) -> None:
        """The nearest items."""
        if not query.strip():
            raise typer.BadParameter("is empty", param_hint="TEXT")
        settings = Settings.load()
        with database(settings) as connection:
            there = find_source(connection, source)
            collection = collection_of(connection, there)
            conditions = parse_words(where, payload_columns(connection, there))
        embedder, index = wiring.query_embedder_of(settings)(there), wiring.index(settings)
        timeout_s = settings.embedding_timeout_s
        hits = search_items(embedder, index, collection, query, limit, conditions, timeout_s=timeout_s)
        if as_json:
            report({"hits": [asdict(hit) for hit in hits]}, as_json=True)
            return
        table = Table("score", "item", "chunk", "payload")
        for hit in hits:
            table.add_row(
                f"{hit.score:.3f}",
                hit.item_id,
                str(hit.chunk),
                ", ".join(f"{k}={v}" for k, v in hit.payload.items() if v),
            )
        Console().print(table)


def _definition(source: Source) -> dict[str, Any]:
    """What was said of it, and not what was seen."""
    return {name: value for name, value in asdict(source).items() if name != "read_by"}


def _sources_table(sources: Sequence[Source]) -> Table:
    table = Table("source", "", "")
    for source in sources:
        name, fact = source.name, asdict(source)
        table.add_section()
        table.add_row(name, "table", f"{fact['table_schema']}.{fact['table_name']}")
        for title, kind in (("key", "key_columns"), ("text", "text_columns"), ("payload", "payload_columns")):
            table.add_row("", title, ", ".join(fact[kind]))
        for title, kind in (
            ("template", "template"), ("where", "condition"), ("alias", "alias"), ("tenant", "tenant_column"),
            ("chunk tokens", "chunk_tokens"), ("chunk overlap", "chunk_overlap"),
        ):  # fmt: skip
            if fact[kind]:
                table.add_row("", title, Text(str(fact[kind])))
        for part, value in source.profile.as_json().items():
            table.add_row("", f"profile {part}", Text(json.dumps(value) if part == "collection" else str(value)))
    return table


def _table(now: Status) -> Table:
    table = Table("", "", show_header=False, title="reindexer")
    for name, value in asdict(now).items():
        if name in ("sources", "breakers"):
            continue
        bad = (name in ("failed", "healing") and value) or value in ("absent", "missing", "disabled", "outdated")
        bad = bad or (name == "workers" and not value)
        shown = f"{value:.1f}" if isinstance(value, float) else str(value)
        table.add_row(name, f"[red]{shown}[/]" if bad else shown)
    for dependency, breaker in now.breakers.items():
        table.add_row("breakers", f"[red]{dependency}: {breaker.reason}[/]")
    if not now.breakers:
        table.add_row("breakers", "none open")
    for name, source in now.sources.items():
        table.add_section()
        table.add_row("source", f"[bold]{name}[/]{' (paused)' if source.paused else ''}")
        table.add_row("  due, completed, failed", f"{source.due}, {source.completed}, {source.failed}")
        if source.problem:
            table.add_row("  problem", f"[red]{source.problem}[/]")
        if source.triggers_wrong:
            table.add_row("  triggers", f"[red]{source.triggers_wrong}[/]")
    return table
