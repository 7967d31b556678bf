"""`compare`: what searches find in the active generation and in another one, before they use it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reindexer import wiring
from reindexer.cli.golden import read_golden
from reindexer.cli.output import JSON, on_one_line, report
from reindexer.cli.status import database
from reindexer.core.price import dollars
from reindexer.core.ranking import stored_bytes
from reindexer.core.wording import counted
from reindexer.generations import compare as flow
from reindexer.generations.compare import Compared, Comparison, Found, Query, Side
from reindexer.generations.rows import Generation
from reindexer.index.search import collection_of
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import estimate
from reindexer.sources.keys import key_types

SAMPLED_ROWS = 1_000
"""Rows by which tokens are estimated where the provider counts none."""
SHOWN = 5
"""Items that are shown of each query on a terminal."""


def compare(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("compare")
    def _compare(
        source: str = typer.Argument(help="A source; `reindexer status` names them."),
        queries: Path | None = typer.Option(
            None, "--queries", metavar="FILE", help="Queries, and the ids that each should find: JSON lines, or TOML."
        ),
        sample: int = typer.Option(
            50, "--sample", min=1, max=1000, help="Without a file: queries drawn from the rows."
        ),
        generation: int | None = typer.Option(None, "--generation", help="Compare with this one, not with the next."),
        as_json: bool = JSON,
    ) -> None:
        """Compare what searches find in the active generation and in the next one."""
        settings = Settings.load()
        index, embedder_of = wiring.index(settings), wiring.query_embedder_of(settings)
        with database(settings) as connection:
            chosen = flow.both(connection, source, generation)
            sides = []
            for each in chosen:
                found = flow.find_side(connection, source, each)
                sides.append(Side(found, each.state, collection_of(connection, found), embedder_of(found)))
            one, other = sides
            asked = _asked(connection, one, queries, sample)
            costs = [_costs(settings, connection, side) for side in sides]
        compared = flow.compare(index, one, other, asked, timeout_s=settings.embedding_timeout_s)
        sides_told = [
            _side(compared, side, each, found, cost)
            for side, each, found, cost in zip(sides, chosen, (compared.ones, compared.others), costs, strict=True)
        ]
        if as_json:
            report(_facts(source, compared, sides_told, golden=queries is not None), as_json=True)
            return
        _tell(source, compared, sides_told, golden=queries is not None)


def _asked(connection: Connection, active: Side, file: Path | None, sample: int) -> list[Query]:
    if file is None:
        return flow.drawn(connection, active.source, sample)
    golden = read_golden(file, key_types(connection, active.source))
    return [Query(each.query, each.expected) for each in golden]


def _costs(settings: Settings, connection: Connection, side: Side) -> dict[str, Any]:
    """Points, and what the vectors cost. Where nothing counted it, it is estimated, and its name says so."""
    points = flow.points_of(connection, side.source)
    parameters = side.source.profile.collection
    told: dict[str, Any] = {
        "points": points,
        "bytes_estimate": stored_bytes(points, side.embedder.dimensions, parameters),
    }
    price = wiring.token_price(settings, side.source)
    if tokens := flow.tokens_counted(connection, side.source):
        return told | {"tokens": tokens, "dollars": dollars(tokens, price)}
    counter = wiring.token_counter_of(settings, side.source)
    spec = embedding_spec_of(side.source, side.embedder)
    tokens = estimate(connection, side.source, spec, counter.count, sample=SAMPLED_ROWS).tokens
    return told | {"tokens_estimate": tokens, "dollars_estimate": dollars(tokens, price)}


def _side(
    compared: Comparison, side: Side, generation: Generation, found: Sequence[Found], costs: Mapping[str, Any]
) -> dict[str, Any]:
    figures = {name: _rounded(value) for name, value in asdict(compared.figures(found)).items()}
    return {
        "generation": generation.number,
        "state": generation.state,
        "embedder": side.embedder.fingerprint,
        "pending": generation.pending,
        **figures,
        **costs,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _facts(source: str, compared: Comparison, sides: Sequence[Mapping[str, Any]], *, golden: bool) -> dict[str, Any]:
    return {
        "source": source,
        "queries": len(compared.queries),
        "from": "file" if golden else "rows",
        "overlap": _rounded(compared.overlap),
        "overlap_exact": _rounded(compared.overlap_exact),
        "generations": list(sides),
        "changed": [
            {
                "query": each.query.text,
                "expected": list(each.query.expected),
                "overlap": _rounded(each.overlap),
                "overlap_exact": _rounded(each.overlap_exact),
                "found": [each.one.ids, each.other.ids],
            }
            for each in compared.changed
        ],
    }


_ROWS = {
    "state": "state",
    "embedder": "embedder",
    "pending": "changes that wait",
    "recall": "recall@10",
    "mrr": "MRR",
    "overlap_with_exact": "finds of the nearest 10",
    "p50_ms": "search p50, ms",
    "p99_ms": "search p99, ms",
    "points": "points",
    "bytes_estimate": "bytes in the index (estimate)",
    "tokens": "tokens embedded, edits included",
    "tokens_estimate": "tokens of all rows (estimate)",
    "dollars": "dollars",
    "dollars_estimate": "dollars (estimate)",
}


def _tell(source: str, compared: Comparison, sides: Sequence[Mapping[str, Any]], *, golden: bool) -> None:
    console = Console(highlight=False)
    whence = "the file" if golden else "the first sentences of rows"
    lines = [
        f"{source}: {counted(len(compared.queries), 'query', 'queries')} from {whence}",
        f"overlap@10        {compared.overlap:.3f}",
        f"overlap@10 exact  {compared.overlap_exact:.3f}  without the approximation of the index",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    names = [name for name in _ROWS if any(side.get(name) is not None for side in sides)]
    table = [(_ROWS[name], *(_shown(side.get(name)) for side in sides)) for name in names]
    titles = ("", *(f"generation {side['generation']}" for side in sides))
    _print(console, titles, table)
    if compared.changed:
        sys.stdout.write(f"\n{_told_of_changed(compared)}\n")
        sys.stdout.flush()
        _print(console, ("query", "overlap", *titles[1:]), [_side_by_side(each) for each in compared.changed])


def _told_of_changed(compared: Comparison) -> str:
    return f"{counted(len(compared.changed), 'query', 'queries')} that changed most (* only there)"


def _side_by_side(each: Compared) -> tuple[str, ...]:
    one, other = each.one, each.other
    return on_one_line(each.query.text), f"{each.overlap:.1f}", _hits(one, other.ids), _hits(other, one.ids)


def _hits(found: Found, elsewhere: Sequence[str]) -> str:
    lines = []
    for hit in found.hits[:SHOWN]:
        mark = " " if hit.item_id in elsewhere else "*"
        about = next((value for value in hit.payload.values() if isinstance(value, str) and value), "")
        lines.append(f"{mark} {on_one_line(hit.item_id)}  {on_one_line(about)[:40]}".rstrip())
    return "\n".join(lines) or "nothing"


def _print(console: Console, titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """As `reindexer.cli.output.rows` does, but cells may have several lines on a terminal."""
    if not console.is_terminal:
        for line in lines:
            sys.stdout.write("\t".join(cell.replace("\n", ", ") for cell in line) + "\n")
        return
    table = Table(*titles)
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")
