"""History: what waited, how fresh it was and how fast it went, minute by minute, for a week.

Written by the leading listener, from what is counted anyway. Rows hold sums since the installation, not differences:
whoever leads next need not know what its predecessor wrote last. Where a minute is missing, nothing is told of it, and
no rate over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from psycopg.rows import class_row

from reindexer.core.lanes import LANES
from reindexer.monitoring.metrics import FRESHNESS, SETTLED, SOURCE_INPUTS, SOURCE_TOKENS
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

KEEP_DAYS = 7
MAX_HOURS = 24 * KEEP_DAYS
MAX_SOURCES = 50
"""So many sources, by name, have a history of their own."""
MAX_FORGOTTEN = 10_000
MAX_STEPS = 240

WHOLE = ""
"""The name under which all sources together are recorded."""


@dataclass(frozen=True, slots=True)
class LaneStep:
    """What became of one lane's items since the step before."""

    items_per_s: float
    changes: int
    """Changes that got into Qdrant."""
    p50_s: float | None
    """About how long half of them took from their commit, at most. None: there were none."""
    p99_s: float | None
    """The same of 99 of 100."""


@dataclass(frozen=True, slots=True)
class EmbeddedStep:
    """What was embedded for one source since the step before."""

    texts_per_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """Some minutes of the past. What counts since the step before is None where that is missing."""

    at: datetime
    """Their beginning."""
    waiting: int
    """The most that waited: items; of all sources together, with the changes in the outbox."""
    failed: int
    oldest_s: float
    """The greatest age of a change that was not in Qdrant."""
    lanes: Mapping[str, LaneStep] | None
    """Of all sources together."""
    embedded: EmbeddedStep | None
    """Of one source."""


@dataclass(frozen=True, slots=True)
class History:
    """The steps that are known, oldest first. Where nothing was recorded, a step is missing."""

    source: str | None
    hours: int
    step_s: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    at: datetime
    waiting: int
    failed: int
    oldest_s: float
    taken_at: datetime
    counted: Mapping[str, Any]


def record(connection: Connection) -> None:
    """Write the rows of this minute, if nobody has. Reads the outbox and due once: 0.1 s per million waiting rows."""
    connection.execute(
        load("history.sql")["record"],
        {
            "sources": MAX_SOURCES,
            "settled": SETTLED,
            "freshness": f"{FRESHNESS}_bucket",
            "texts": SOURCE_INPUTS,
            "tokens": SOURCE_TOKENS,
        },
    )


def until_next_minute_s(connection: Connection) -> float:
    """Return the seconds until the next minute begins, by the clock of Postgres."""
    row = connection.execute(load("history.sql")["until_next"]).fetchone()
    return float(row[0]) if row else 60.0


def forget(connection: Connection) -> None:
    """Delete what is older than a week, the most of an hour and more at a time."""
    connection.execute(load("history.sql")["forget"], {"days": KEEP_DAYS, "limit": MAX_FORGOTTEN})


def read(connection: Connection, source: str | None, hours: int) -> History:
    """Return the last hours, in at most `MAX_STEPS` steps and one more. `source`: None for all together."""
    step = -(-hours * 60 // MAX_STEPS)
    with connection.cursor(row_factory=class_row(_Row)) as cursor:
        rows = cursor.execute(
            load("history.sql")["read"], {"source": WHOLE if source is None else source, "hours": hours, "step": step}
        ).fetchall()
    length = timedelta(minutes=step)
    first = rows[-1].at - timedelta(hours=hours) if rows else None
    steps = (each for each in _steps(rows, length, whole=source is None) if first is None or each.at >= first)
    return History(source, hours, step * 60, tuple(steps))


def quantile(within: Mapping[str, float], share: float) -> float | None:
    """About how long that share took at most, in seconds. `within`: how many took at most each bound, and more than
    the next smaller one. Between two bounds they are taken to lie evenly. None: there are none."""
    counts = sorted((float("inf") if bound == "+Inf" else float(bound), count) for bound, count in within.items())
    rank = share * sum(count for _, count in counts)
    if not rank:
        return None
    reached, lower = 0.0, 0.0
    for bound, count in counts:
        if reached + count >= rank and count:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - reached) / count
        reached, lower = reached + count, bound if bound < float("inf") else lower
    return lower


def _steps(rows: list[_Row], length: timedelta, *, whole: bool) -> Iterator[Step]:
    for before, row in pairwise([None, *rows]):
        assert row is not None
        follows = before is not None and row.at - before.at == length  # guard history-gap
        since = before if follows and before is not None and row.taken_at > before.taken_at else None
        yield Step(
            row.at, row.waiting, row.failed, row.oldest_s,
            _lanes(since, row) if whole and since else None,
            _embedded(since, row) if not whole and since else None,
        )  # fmt: skip


def _lanes(since: _Row, row: _Row) -> Mapping[str, LaneStep] | None:
    lanes: dict[str, LaneStep] = {}
    for lane in LANES:
        now, then = row.counted.get(lane, {}), since.counted.get(lane, {})
        items = now.get("settled", 0) - then.get("settled", 0)
        earlier = then.get("within", {})
        within = {bound: count - earlier.get(bound, 0) for bound, count in now.get("within", {}).items()}
        if items < 0 or any(count < 0 for count in within.values()):
            return None  # counting began anew
        lanes[lane] = LaneStep(
            items / _between_s(since, row), round(sum(within.values())), quantile(within, 0.5), quantile(within, 0.99)
        )
    return lanes


def _embedded(since: _Row, row: _Row) -> EmbeddedStep | None:
    texts, tokens = (row.counted.get(name, 0) - since.counted.get(name, 0) for name in ("texts", "tokens"))
    if texts < 0 or tokens < 0:
        return None
    return EmbeddedStep(texts / _between_s(since, row), tokens / _between_s(since, row))


def _between_s(since: _Row, row: _Row) -> float:
    return (row.taken_at - since.taken_at).total_seconds()
