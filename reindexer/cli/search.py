"""`search`: the nearest items, directly from Qdrant."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import typer

from reindexer import wiring
from reindexer.cli.output import JSON, TAKES_DASHES, report, rows
from reindexer.cli.status import database
from reindexer.core.filters import parse_words
from reindexer.index.search import Searchable, search_source, searchable
from reindexer.settings import Settings


def search(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("search", context_settings=TAKES_DASHES)
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

        def resolve() -> Searchable:
            with database(settings) as connection:
                return searchable(connection, source)

        resolved = [resolve()]  # what is wrong with the database is told before all else
        found = search_source(
            lambda: resolved.pop() if resolved else resolve(), wiring.query_embedder_of(settings),
            wiring.index(settings), query, limit, partial(parse_words, where), timeout_s=settings.embedding_timeout_s,
        )  # fmt: skip
        hits = found.hits
        if found.behind:
            sys.stderr.write(f"reindexer: warning: {found.behind}\n")
        if as_json:
            report({"hits": [asdict(hit) for hit in hits]}, as_json=True)
            return
        lines = [(f"{hit.score:.3f}", hit.item_id, str(hit.chunk), _in_short(hit.payload)) for hit in hits]
        rows(("score", "item", "chunk", "payload"), lines, whole=["item"])


def _in_short(payload: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in payload.items() if value)
