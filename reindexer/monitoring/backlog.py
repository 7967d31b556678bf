"""Lag: what waits, where, and how old the oldest change of it is. Reads only.

A change counts from its commit until it is in Qdrant, whoever is dead meanwhile. What has no change behind it (a
backfill, a wish for a new embedding) waits without an age. What FAILED for good waits for nobody: it is counted, and
has no age either, or one refused text would hide everything else.

What a change is (a deletion, a new payload, a new text) shows only when its row is read. So the age of what may have
been revoked is that of the oldest change of which it is not known that nothing but an embedding is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from psycopg.rows import dict_row

from reindexer.core.items import LANES
from reindexer.monitoring.metrics import RETRIES, SETTLED
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

Place = Literal["outbox", "live", "bulk", "runs", "healing"]
"""Where a change can wait: in the outbox, due in one of the lanes, in a walk over a whole source, for another try after
it FAILED."""

NEGLECTED_S = 60.0
"""How long items may be claimable, while nothing is worked on, before somebody is told."""

COUNTED_EXACTLY = 10_000
"""Completed items of a source beyond which an estimate will do."""


@dataclass(frozen=True, slots=True)
class Due:
    """Due items of one source and lane."""

    source: str
    lane: str
    ready: int
    """Could be claimed now."""
    waiting: int
    """Wait for another try."""
    claimed: int

    @property
    def items(self) -> int:
        """All of them."""
        return self.ready + self.waiting + self.claimed


@dataclass(frozen=True, slots=True)
class Failed:
    """FAILED items of one source."""

    source: str
    failed: int
    """For good."""
    healing: int
    """For a passing cause: tried again, perhaps just now."""


@dataclass(frozen=True, slots=True)
class Runs:
    """First fills, walks and backfills that are not through."""

    kind: str
    open: int
    running: int
    """Those that are not paused."""


@dataclass(frozen=True, slots=True)
class Lag:
    """All that waits."""

    outbox: int
    due: tuple[Due, ...]
    failed: tuple[Failed, ...]
    runs: tuple[Runs, ...]
    oldest_s: Mapping[Place, float]
    """Seconds since the commit of the oldest change that waits in each place; 0: none does."""
    revoked_s: Mapping[Place, float]
    """The same of changes that may be a deletion, or a new payload, that is not in Qdrant."""


def lag(connection: Connection) -> Lag:
    """All that waits, counted. It reads outbox and due once: 0.1 s for each million rows that wait."""
    (outbox,) = _rows(connection, "outbox")
    due, runs, failed = (_rows(connection, name) for name in ("due", "runs", "failed"))
    revoked: list[tuple[Place, float | None]] = [("outbox", outbox["oldest_age_s"])]
    revoked += [(row["lane"], row.pop("revoked_age_s")) for row in due]
    revoked += [("runs", row["oldest_age_s"]) for row in runs if row["kind"] != "first_fill"]
    revoked += [("healing", row.pop("revoked_age_s")) for row in failed]
    ages: list[tuple[Place, float | None]] = [("outbox", outbox["oldest_age_s"])]
    ages += [(row["lane"], row.pop("oldest_age_s")) for row in due]
    ages += [("runs", row.pop("oldest_age_s")) for row in runs]
    ages += [("healing", row.pop("oldest_age_s")) for row in failed]
    return Lag(
        outbox=outbox["changes"],
        due=tuple(Due(**row) for row in due),
        failed=tuple(Failed(**row) for row in failed),
        runs=tuple(Runs(**row) for row in runs),
        oldest_s=_by_place(ages),
        revoked_s=_by_place(revoked),
    )


def _by_place(ages: Sequence[tuple[Place, float | None]]) -> Mapping[Place, float]:
    return {
        place: max([0.0, *(age_s for where, age_s in ages if where == place and age_s is not None)])
        for place in get_args(Place)
    }


def completed(connection: Connection, source: str, generation: int, *, exact: int = COUNTED_EXACTLY) -> int:
    """COMPLETED items of a source: counted up to `exact`, beyond that the planner's estimate, which is never less."""
    queries, params = load("backlog.sql"), {"source": source, "generation": generation}
    row = connection.execute(queries["completed"], params | {"exact": exact}).fetchone()
    counted = int(row[0]) if row else 0
    if counted < exact:
        return counted
    row = connection.execute(queries["completed_estimate"], params).fetchone()
    return max(exact, int(row[0][0]["Plan"]["Plan Rows"]) if row else 0)


def neglected_s(connection: Connection) -> float | None:
    """For how long an item could have been claimed while nobody did any work; None: all is as it should be.

    So it is if workers live and beat, but consume no lane's queue, or if no message reaches them.
    """
    row = connection.execute(
        load("backlog.sql")["neglected"],
        {"lanes": list(LANES), "long_s": NEGLECTED_S, "signs_of_work": [SETTLED, RETRIES]},
    ).fetchone()
    return row[0] if row else None  # guard readiness-stalled-workers


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(load("backlog.sql")[query]).fetchall()
