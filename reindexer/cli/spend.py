"""`spend`: what requests to providers cost."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum

import typer

from reindexer.cli.output import JSON, report, rows
from reindexer.cli.status import database
from reindexer.monitoring.spend import SpentSum, reserved, spent, summed
from reindexer.settings import Settings


class _By(StrEnum):
    SOURCE = "source"
    MODEL = "model"
    PURPOSE = "purpose"
    DAY = "day"


def spend(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("spend")
    def _spend(
        by: _By = typer.Option(_By.DAY, "--by", help="What a line is."),
        days: int = typer.Option(30, "--days", min=1, max=36_600, help="So many UTC days, today included."),
        as_json: bool = JSON,
    ) -> None:
        """Tokens and money that requests to providers cost, by day, source, model or purpose."""
        with database(Settings.load()) as connection:
            lines, aside = spent(connection, days), reserved(connection)
        sums = summed(lines, by.value)
        if as_json:
            report({"days": days, "by": by.value, "spent": [asdict(each) for each in sums], "reserved": asdict(aside)},
                   as_json=True)  # fmt: skip
            return
        titles = (by.value, "requests", "tokens", "unconfirmed", "without price", "dollars")
        rows(titles, [_line(each) for each in sums], whole=titles)


def _line(each: SpentSum) -> tuple[str, ...]:
    numbers = each.requests, each.tokens, each.unconfirmed_tokens, each.unpriced_tokens
    return each.name, *map(str, numbers), f"{each.dollars:.6f}"
