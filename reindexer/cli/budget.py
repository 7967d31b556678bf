"""`budget`: what may be spent, and what is used of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import typer

from reindexer import audit, budgets, wiring
from reindexer.cli.output import JSON, report, rows
from reindexer.cli.status import database
from reindexer.core.budget import Budget, Kind, Period
from reindexer.core.errors import SourceError, UsageError
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.sources.store import all_sources, find_source

_TITLES = ("sources", "for", "period", "dollars", "used", "", "until")
_AMOUNT = "A number, or `none` to take it away."


def budget(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("budget")
    def _budget(
        daily_usd: str | None = typer.Option(None, "--daily-usd", metavar="DOLLARS", help=f"By UTC day. {_AMOUNT}"),
        monthly_usd: str | None = typer.Option(None, "--monthly-usd", metavar="DOLLARS", help=f"By month. {_AMOUNT}"),
        run_usd: str | None = typer.Option(
            None, "--run-usd", metavar="DOLLARS", help=f"Of the backfill or rebuild that is open. {_AMOUNT}"
        ),
        source: str | None = typer.Option(None, "--source", help="Of this source alone; none: of all together."),
        searches: bool = typer.Option(False, "--searches", help="For searches, which are counted apart."),
        stop_edits: bool | None = typer.Option(
            None, "--stop-edits/--no-stop-edits", help="Whether edits wait, too, once it is used up."
        ),
        as_json: bool = JSON,
    ) -> None:
        """What may be spent, and how much of it is used; with an amount, set it."""
        wanted: dict[Period, float | None] = {}
        if daily_usd is not None:
            wanted["day"] = _amount("--daily-usd", daily_usd)
        if monthly_usd is not None:
            wanted["month"] = _amount("--monthly-usd", monthly_usd)
        if run_usd is not None:
            wanted["run"] = _amount("--run-usd", run_usd)
        if not wanted and (searches or source is not None or stop_edits is not None):
            raise UsageError("name an amount as well: --daily-usd 5, --monthly-usd 100")
        if searches and stop_edits is not None:
            raise UsageError("--stop-edits is about indexing: take --searches or --stop-edits out")
        settings = Settings.load()
        with database(settings) as connection:
            if source is not None:
                find_source(connection, source)
            kind: Kind = "search" if searches else "indexing"
            with connection.transaction():
                for period, usd in wanted.items():
                    budgets.set_budget(
                        connection, who=audit.of_command(), source=source or "", kind=kind, period=period, usd=usd,
                        stops_edits=stop_edits,
                    )  # fmt: skip
            found = budgets.all_budgets(connection)
            if any(usd is not None for usd in wanted.values()):
                for warning in _unpriced(settings, connection, source):
                    sys.stderr.write(f"{warning}\n")
        if as_json:
            report({"budgets": [each.facts for each in found]}, as_json=True)
        else:
            rows(_TITLES, map(_line, found), whole=_TITLES)


def _amount(option: str, given: str) -> float | None:
    if given == "none":
        return None
    with suppress(ValueError):
        return float(given)
    raise UsageError(f"{option}: {given!r} is no amount of dollars, nor `none`")


def _unpriced(settings: Settings, connection: Connection, source: str | None) -> Iterator[str]:
    """Sources that a budget will stop, because nobody knows what they cost."""
    for each in all_sources(connection):
        if source not in (None, each.name):
            continue
        with suppress(SourceError, UsageError):
            if wiring.token_price(settings, each) is None:
                yield (
                    f"the settings here do not know the price of {each.name!r}'s model; workers that do not either send"
                    " nothing that a budget limits: name it in the file of REINDEXER_PRICES"
                )


def _line(each: Budget) -> tuple[str, ...]:
    state = "used up" if each.is_closed else f"{each.used_usd / each.usd:.0%}" if each.usd else ""
    what = each.kind + (", edits too" if each.stops_edits else "")
    until = f"{each.ends} 00:00 UTC" if each.ends else "the run's end"
    return each.source or "all", what, each.period, f"{each.usd:g}", f"{each.used_usd:.6f}", state, until
