"""`search` and `similar`: what is nearest to a text or to an item, directly from Qdrant."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import typer

from reindexer import wiring
from reindexer.cli.output import JSON, TAKES_DASHES, report, rows
from reindexer.cli.status import database
from reindexer.core.filters import parse_words
from reindexer.core.search_terms import MAX_DEPTH, MAX_LIMIT, MAX_SCORE, Group, Mode, SearchTerms
from reindexer.index.as_of import AsOf
from reindexer.index.search import FilterOf, Searchable, SearchResult, search_sources, searchable
from reindexer.index.similar import similar
from reindexer.ports import Hit
from reindexer.settings import Settings

LIMIT = typer.Option(10, min=1, max=MAX_LIMIT, help="At most this many.")
OFFSET = typer.Option(0, min=0, max=MAX_DEPTH - 1, help="Leave out so many of the best.")
FILTER = typer.Option(
    [],
    "--filter",
    help="On a payload column: category=shoes, price>=10, color!=red; may be given several times.",
)
MIN_SCORE = typer.Option(
    None,
    min=-MAX_SCORE,
    max=MAX_SCORE,
    help="Leave out what scores less. Of the distances euclid and manhattan: what scores more.",
)
GROUP = typer.Option("item", help="item: each item once. chunk: each part of a text that is near.")
TEXT = typer.Option(False, "--text", help="Show the text of each hit, as the row is now.")


def search(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("search", context_settings=TAKES_DASHES)
    def _search(
        source: str = typer.Argument(help="Name of the source."),
        query: str = typer.Argument(metavar="TEXT", help="What to look for."),
        also: list[str] = typer.Option(
            [], "--also", metavar="SOURCE", help="Search this source, too; may be given several times."
        ),
        limit: int = LIMIT,
        offset: int = OFFSET,
        where: list[str] = FILTER,
        min_score: float | None = MIN_SCORE,
        group: Group = GROUP,
        mode: Mode | None = typer.Option(
            None,
            help="meaning: by vectors. keywords: by words. hybrid: by both, which is so if not given and there are "
            "keywords.",
        ),
        text: bool = TEXT,
        as_json: bool = JSON,
    ) -> None:
        """The nearest items."""
        if not query.strip():
            raise typer.BadParameter("is empty", param_hint="TEXT")
        settings, names = Settings.load(), list(dict.fromkeys([source, *also]))
        resolves = [_Resolve(settings, name) for name in names]
        for each in resolves:  # what is wrong with the database is told before all else
            each.look()
        found = search_sources(
            wiring.searcher(settings), resolves, query,
            SearchTerms(limit, offset, min_score=min_score, group=group, mode=mode), _filter_of(where),
            texts=partial(database, settings) if text else None,
        )  # fmt: skip
        _show(found, with_source=len(names) > 1, with_text=text, as_json=as_json)

    @app.command("similar", context_settings=TAKES_DASHES)
    def _similar(
        source: str = typer.Argument(help="Name of the source."),
        item_id: str = typer.Argument(metavar="ID", help="Key of the row."),
        limit: int = LIMIT,
        offset: int = OFFSET,
        where: list[str] = FILTER,
        min_score: float | None = MIN_SCORE,
        group: Group = GROUP,
        text: bool = TEXT,
        as_json: bool = JSON,
    ) -> None:
        """More like this item: those nearest to it. Asks no provider."""
        settings = Settings.load()
        resolve = _Resolve(settings, source)
        resolve.look()
        found = similar(
            resolve, partial(database, settings), wiring.searcher(settings), item_id,
            SearchTerms(limit, offset, min_score=min_score, group=group), _filter_of(where), text=text,
        )  # fmt: skip
        _show(found, with_source=False, with_text=text, as_json=as_json)


class _Resolve:
    """Looks a source up; the first call returns what `look` saw."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._seen: list[Searchable] = []

    def look(self) -> None:
        """Look it up beforehand."""
        self._seen = [self()]

    def __call__(self) -> Searchable:
        if self._seen:
            return self._seen.pop()
        with database(self._settings) as connection:
            there = searchable(connection, self._name)
            return replace(there, as_of=AsOf().of(lambda: nullcontext(connection), there.source))


def _filter_of(where: list[str]) -> FilterOf:
    return partial(parse_words, where)


def _show(found: SearchResult, *, with_source: bool, with_text: bool, as_json: bool) -> None:
    if found.behind:
        sys.stderr.write(f"reindexer: warning: {found.behind}\n")
    if found.degraded == "keywords":
        sys.stderr.write("reindexer: warning: the query could not be embedded; what follows has its words\n")
    if found.degraded == "meaning":
        sys.stderr.write("reindexer: warning: there are no keywords yet; what follows is near in meaning\n")
    if as_json:
        degraded = {"degraded": found.degraded} if found.degraded else {}
        report({"hits": [_facts(hit, with_text) for hit in found.hits], **degraded, "as_of": found.as_of}, as_json=True)
        return
    titles = ["score", *["source"] * with_source, "item", "chunk", "payload", *["text"] * with_text]
    lines = [
        [
            f"{hit.score:.3f}", *[hit.source] * with_source, hit.item_id, str(hit.chunk), _in_short(hit.payload),
            *["(changed)" if hit.text is None else hit.text] * with_text,
        ]
        for hit in found.hits
    ]  # fmt: skip
    rows(titles, lines, whole=["item"])


def _facts(hit: Hit, with_text: bool) -> dict[str, Any]:
    """A hit as the API answers it."""
    facts = {
        "source": hit.source, "item_id": hit.item_id, "score": hit.score, "chunk": hit.chunk, "span": hit.span,
        "payload": hit.payload,
    }  # fmt: skip
    return facts | {"text": hit.text, "changed": hit.changed} if with_text else facts


def _in_short(payload: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in payload.items() if value)
