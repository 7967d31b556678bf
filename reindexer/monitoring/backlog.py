"""Backlog: what waits, where, and how old its oldest change is. Reads only.

A change counts from its commit until it is in Qdrant, even if every process is down meanwhile. Work without a change
behind it (a backfill, a reindex request) has no age. Items that FAILED permanently are counted, but have no age either:
otherwise one refused text would hide everything else.

What kind of change it is (a deletion, a new payload, a new text) shows only when its row is read. The age of a possible
revocation is therefore that of the oldest change, leaving out items known to need nothing but an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from psycopg.rows import dict_row

from reindexer.core.lanes import LANES
from reindexer.monitoring.metrics import RETRIES, SETTLED
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

Place = Literal["outbox", "live", "bulk", "runs", "healing"]
"""Where a change can wait: in the outbox, due in one of the lanes, in a scan of a whole source, or for an automatic
retry after it FAILED."""

NEGLECTED_S = 60.0
"""Readiness reports a problem if items are claimable for this long while nothing is worked on."""

COUNTED_EXACTLY = 10_000
"""Above this many completed items of a source an estimate is used."""


@dataclass(frozen=True, slots=True)
class Due:
    """Due items of one source and lane."""

    source: str
    lane: str
    ready: int
    """Items that could be claimed now."""
    waiting: int
    """Items that wait for another attempt."""
    claimed: int

    @property
    def items(self) -> int:
        """The total of all states."""
        return self.ready + self.waiting + self.claimed


@dataclass(frozen=True, slots=True)
class Failed:
    """FAILED items of one source."""

    source: str
    failed: int
    """Failed permanently."""
    healing: int
    """Failed with a transient cause: they are retried automatically, possibly just now."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Open runs of one kind: initial scans, resync scans or backfills."""

    kind: str
    open: int
    running: int
    """Open runs that are not paused."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Everything that waits."""

    outbox: int
    due: tuple[Due, ...]
    failed: tuple[Failed, ...]
    runs: tuple[Runs, ...]
    oldest_s: Mapping[Place, float]
    """Seconds since the commit of the oldest change that waits in each place. 0: no change waits there."""
    revoked_s: Mapping[Place, float]
    """The same for changes that may be a deletion or a new payload, and are not in Qdrant yet."""


def lag(connection: Connection) -> Lag:
    """Count everything that waits. Reads outbox and due once, which takes 0.1 s per million waiting rows."""
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
    """Return the COMPLETED items of a source: counted up to `exact`, above that the planner's estimate, at least
    `exact`."""
    queries, params = load("backlog.sql"), {"source": source, "generation": generation}
    row = connection.execute(queries["completed"], params | {"exact": exact}).fetchone()
    counted = int(row[0]) if row else 0
    if counted < exact:
        return counted
    row = connection.execute(queries["completed_estimate"], params).fetchone()
    return max(exact, int(row[0][0]["Plan"]["Plan Rows"]) if row else 0)


def neglected_s(connection: Connection) -> float | None:
    """Return for how many seconds an item could have been claimed while no work was done. None: all is in order.

    This happens if workers live and send heartbeats but consume no lane's queue, or if no message reaches them.
    """
    row = connection.execute(
        load("backlog.sql")["neglected"],
        {"lanes": list(LANES), "long_s": NEGLECTED_S, "signs_of_work": [SETTLED, RETRIES]},
    ).fetchone()
    return row[0] if row else None  # guard readiness-stalled-workers


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(load("backlog.sql")[query]).fetchall()
