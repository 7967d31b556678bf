"""Spend: what requests to providers cost, by UTC day, and what became of processes that can't say it any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from psycopg.rows import class_row

from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

DEAD_S = 120.0
"""A reservation that was not renewed for so long is a dead process's."""

By = Literal["source", "model", "purpose", "day"]


@dataclass(frozen=True, slots=True)
class Spent:
    """Requests of one day, source, model and purpose, over all accounts."""

    day: date
    source: str
    model: str
    purpose: str
    requests: int
    tokens: int
    """As the provider counted them."""
    unconfirmed_tokens: int
    """The most that requests without a count may have cost: no answer came, or their process died."""
    unpriced_tokens: int
    """Those of both whose price was not known."""
    dollars: float
    """The price of the others, as it was then."""


@dataclass(frozen=True, slots=True)
class SpentSum:
    """Requests that have one day, source, model or purpose in common."""

    name: str
    requests: int
    tokens: int
    unconfirmed_tokens: int
    unpriced_tokens: int
    dollars: float


@dataclass(frozen=True, slots=True)
class SetAside:
    """What processes have set aside for requests that are not accounted yet. It counts as spent."""

    tokens: int
    dollars: float


def spent(connection: Connection, days: int) -> list[Spent]:
    """Return what was spent within the last `days` UTC days, today included."""
    with connection.cursor(row_factory=class_row(Spent)) as cursor:
        return cursor.execute(load("spend.sql")["spent"], {"days": days}).fetchall()


def reserved(connection: Connection) -> SetAside:
    """Return what is set aside now."""
    with connection.cursor(row_factory=class_row(SetAside)) as cursor:
        found = cursor.execute(load("spend.sql")["reserved"]).fetchone()
    assert found is not None
    return found


def summed(lines: Iterable[Spent], by: By) -> list[SpentSum]:
    """Return sums by one of the names, in its order."""
    sums: dict[str, list[Spent]] = {}
    for line in lines:
        sums.setdefault(str(getattr(line, by)), []).append(line)
    return [
        SpentSum(
            name,
            sum(each.requests for each in those),
            sum(each.tokens for each in those),
            sum(each.unconfirmed_tokens for each in those),
            sum(each.unpriced_tokens for each in those),
            sum(each.dollars for each in those),
        )
        for name, those in sorted(sums.items())
    ]


def count_the_dead(connection: Connection, after_s: float = DEAD_S) -> int:
    """Make spend of what dead processes had set aside: nobody knows what they asked. Returns how many tokens."""
    row = connection.execute(load("spend.sql")["spend_of_the_dead"], {"after_s": after_s}).fetchone()
    return int(row[0]) if row else 0
