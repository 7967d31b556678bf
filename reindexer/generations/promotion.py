"""Promote and roll back: searches use another generation from one commit on.

Postgres says which generation is active. A search resolves its source once, and asks that generation's collection by
its own name with a query embedded by its model. So it never sees two models mixed, before the commit or after it. The
alias, by which other programs search, follows.

Before the commit the target's items move to the lane `live`, and the call waits until nothing of them is late. Else
rows that were deleted meanwhile would be found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from reindexer.audit import Action, audited
from reindexer.core.errors import GenerationConflict
from reindexer.core.lanes import REQUEST_LANE
from reindexer.core.source import Source
from reindexer.events import outbox
from reindexer.generations.lifecycle import State, hold, refit
from reindexer.postgres import catalog
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import promoting
from reindexer.postgres.queries import load
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import trigger_hash

LAG_S = 1.0
"""A change that a generation has not got after this time is late."""
LOOK_S = 0.1
HURRY_S = 15.0
"""How long a generation gets its changes in their own lane after the last look of whoever promotes it."""
PAGE = 5_000
LISTED = 20


@dataclass(frozen=True, slots=True)
class Lacking:
    """What searches would miss in a generation, or find in an older form."""

    late: int = 0
    """Changes of more than a second ago that are not in it."""
    runs: int = 0
    """Runs that may find more to do."""
    failed: int = 0
    """Items that failed in it, and did not in the active generation."""
    examples: tuple[tuple[str, str], ...] = ()
    """Some of them, by id, with the reason."""

    @property
    def is_late(self) -> bool:
        """Whether it lags behind."""
        return bool(self.late or self.runs)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a promotion, or a rollback, did."""

    source: Source
    """As the generation that searches use now defines it."""
    former: int
    lacking: Lacking


@dataclass(frozen=True, slots=True)
class Terms:
    """What a promotion accepts, and how long it waits."""

    patience_s: float = 60.0
    accept_lag: bool = False
    accept_failed: bool = False
    standby_for_s: float = 86_400.0
    """How long the former generation is kept as a way back."""


def promote(connection: Connection, source: str, *, who: str, terms: Terms = Terms()) -> Promoted:
    """Make searches use the generation that is ready. Raises GenerationConflict, with what to do, if they can't yet."""
    return _switch(connection, source, _ready, "promote", who, terms)


def rollback(connection: Connection, source: str, *, who: str, terms: Terms = Terms()) -> Promoted:
    """Make searches use the former generation again. Raises GenerationConflict as `promote` does."""
    return _switch(connection, source, _former, "rollback", who, terms)


def _ready(connection: Connection, source: str) -> int:
    states = _states(connection, source)
    for number, state in states.items():
        if state == "ready":
            return number
    for number, state in states.items():
        if state == "filling":
            raise GenerationConflict(
                f"generation {number} of {source!r} is still being filled; watch it: reindexer rebuild {source} --watch"
            )
    raise GenerationConflict(f"no generation of {source!r} is ready; make one: reindexer rebuild {source}")


def _former(connection: Connection, source: str) -> int:
    _states(connection, source)
    row = connection.execute(load("generations.sql")["former"], {"source": source}).fetchone()
    if row is None:
        raise GenerationConflict(f"no former generation of {source!r} is kept; there is nothing to go back to")
    return int(row[0])


def _states(connection: Connection, source: str) -> dict[int, State]:
    find_source(connection, source)
    return dict(connection.execute(load("generations.sql")["states"], {"source": source}).fetchall())


Choice = Callable[[Connection, str], int]
"""Names the generation that searches are to use. Raises GenerationConflict if there is none."""


class _Lags(GenerationConflict):
    """It got a change between the look at it and the transaction."""


def _switch(connection: Connection, source: str, choose: Choice, action: Action, who: str, terms: Terms) -> Promoted:
    number, until = choose(connection, source), time.monotonic() + terms.patience_s
    hurried_at: datetime | None = None
    try:
        while True:
            hurried_at = _await(connection, source, number, terms, until, hurried_at)
            try:
                return _switch_now(connection, source, number, choose, action, who, terms, hurried_at)
            except _Lags:
                if time.monotonic() > until:
                    raise
    finally:
        if not connection.closed:
            connection.execute(load("generations.sql")["end_hurry"], {"source": source, "generation": number})


def _switch_now(
    connection: Connection, source: str, number: int, choose: Choice, action: Action, who: str, terms: Terms,
    hurried_at: datetime,
) -> Promoted:  # fmt: skip
    with audited(connection, who, action, source) as draft:
        hold(connection, source)
        if choose(connection, source) != number:
            raise GenerationConflict(f"somebody else changed the generations of {source!r} just now; look again")
        promoting(connection, source)  # guard promote-holds-deletions
        found = _require(connection, source, number, terms, hurried_at)  # guard promote-second-look
        former = _exchange(connection, source, number, terms)
        draft.details |= {"generation": number, "former": former, "late": found.late, "failed": found.failed}
    return Promoted(find_source(connection, source), former, found)


def _await(
    connection: Connection, source: str, number: int, terms: Terms, until: float, hurried_at: datetime | None
) -> datetime:
    """Wait until the generation is up to date, or `until` (monotonic). Returns since when marks wait for it, too
    (`hurried_at`, if they did before)."""
    while True:
        named = {"source": source, "generation": number, "for_s": HURRY_S, "page": PAGE}
        moved = connection.execute(load("generations.sql")["hurry"], named).rowcount  # guard promote-live-lane
        if hurried_at is None:
            (hurried_at,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
            assert hurried_at is not None
        if terms.accept_lag or not lacking(connection, source, number, hurried_at).is_late or time.monotonic() > until:
            return hurried_at
        if moved < PAGE:
            time.sleep(LOOK_S)


def lacking(connection: Connection, source: str, number: int, hurried_at: datetime | None = None) -> Lacking:
    """Return what searches would miss if they used this generation now.

    `hurried_at`: a change before that is late, however young: who waited for it may have been told already that
    searches find it.
    """
    queries, named = load("generations.sql"), {"source": source, "generation": number}
    row = connection.execute(queries["lag"], named | {"lag_s": LAG_S, "hurried_at": hurried_at}).fetchone()
    late, runs, undrained = row or (0, 0, 0)
    failed = connection.execute(queries["lacking"], named | {"limit": LISTED}).fetchall()
    examples = tuple((str(item_id), str(error)) for item_id, error, _ in failed)
    return Lacking(late + undrained, runs, failed[0][2] if failed else 0, examples)


def _require(connection: Connection, source: str, number: int, terms: Terms, hurried_at: datetime) -> Lacking:
    found = lacking(connection, source, number, hurried_at)
    if found.is_late and not terms.accept_lag:
        what = f"{found.late} changes are not in it yet" if found.late else "a run over the source is not through"
        raise _Lags(
            f"generation {number} of {source!r} lags behind: {what}; try again, or say --accept-lag: searches would "
            "miss these changes until they are in"
        )
    if found.failed and not terms.accept_failed:
        some = "; ".join(f"{item_id}: {error}" for item_id, error in found.examples[:3])
        raise GenerationConflict(
            f"{found.failed} items of {source!r} failed in generation {number} and are in the active one ({some}); "
            f"replay them: reindexer dead-letters replay --source {source}; or say --accept-failed: searches would "
            "miss them"
        )
    return found


def _exchange(connection: Connection, source: str, number: int, terms: Terms) -> int:
    """Change which generation searches use. Returns the former one."""
    queries, named = load("generations.sql"), {"source": source, "generation": number}
    target = find_source(connection, source, number)
    row = connection.execute(queries["retire"], named | {"standby_for_s": terms.standby_for_s}).fetchone()
    activated = connection.execute(queries["activate"], named).fetchone()
    if row is None or activated is None:
        raise GenerationConflict(f"somebody else changed the generations of {source!r} just now; look again")
    former = int(row[0])
    facts: dict[str, Any] = {
        "definition_hash": trigger_hash(target), "facts": Jsonb(catalog.facts(connection, target)),
    }  # fmt: skip
    connection.execute(queries["point_source"], named | facts)
    connection.execute(queries["rebind_requests"], named | {"former": former, "lane": REQUEST_LANE})
    connection.execute(queries["rebind_runs"], named | {"former": former})
    refit(connection, source)
    outbox.tell_promoted(connection, source, number, former)  # guard event-promoted
    return former
