"""`search`: the nearest items, directly from Qdrant."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict

import typer

from reindexer import wiring
from reindexer.cli.output import JSON, TAKES_DASHES, report, rows
from reindexer.cli.status import database
from reindexer.core.filters import parse_words
from reindexer.index.search import search as search_items
from reindexer.index.search import searchable
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
        with database(settings) as connection:
            there = searchable(connection, source)
        conditions = parse_words(where, there.columns)
        embedder, index = wiring.query_embedder_of(settings)(there.source), wiring.index(settings)
        timeout_s = settings.embedding_timeout_s
        hits = search_items(embedder, index, there.collection, query, limit, conditions, timeout_s=timeout_s)
        if there.behind:
            sys.stderr.write(f"reindexer: warning: {there.behind}\n")
        if as_json:
            report({"hits": [asdict(hit) for hit in hits]}, as_json=True)
            return
        lines = [(f"{hit.score:.3f}", hit.item_id, str(hit.chunk), _in_short(hit.payload)) for hit in hits]
        rows(("score", "item", "chunk", "payload"), lines, whole=["item"])


def _in_short(payload: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in payload.items() if value)
