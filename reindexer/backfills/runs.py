"""Backfills: rebuild all items of a source, or some, on the machinery of the first fill (`walk`).

A run is a row in Postgres; the leading listener queues its pages, whatever becomes of whoever started it. At most one
backfill is open for a source. First fills and changes of whole sources are runs too and are told here, but not
cancelled: without them the index would not be equal to the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import dict_row

from reindexer.audit import Action, audited
from reindexer.core.errors import ReindexerError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources import condition

MAX_LISTED = 100

Kind = Literal["first_fill", "whole_source", "backfill"]
RunState = Literal["running", "paused", "finished", "cancelled", "failed"]


class RunConflict(ReindexerError):
    """The run is not in a state for this, or another one is open."""


class NoSuchRun(ReindexerError):
    """There is no run of that id."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, and how far it is."""

    id: int
    source: str
    kind: Kind
    state: RunState
    where: str | None
    force: bool
    total: int | None
    """Items that it will have queued; None: not known yet."""
    total_is_estimate: bool
    queued: int
    done: int
    """Queued and no longer due."""
    failed: int
    """Items of the source that failed while it ran and are FAILED since, also for another cause than the run."""
    rate: float | None
    """Items a second that were done, on average since the start, without pauses."""
    eta_s: float | None
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    """Why it failed or, while it runs, why it does not get on."""

    @property
    def is_open(self) -> bool:
        """Running or paused."""
        return self.finished_at is None


def start(connection: Connection, source: Source, *, who: str, where: str | None = None, force: bool = False) -> Run:
    """Start a backfill for `who`. Without `force`, items whose text is unchanged are looked at but not embedded again.

    Raises ConditionRejected, SourceError, and RunConflict if one is open for the source.
    """
    if where is not None:
        condition.check(connection, source, where)
    total, is_estimate = condition.count(connection, source, where)
    with audited(connection, who, "backfill_start", source.name) as draft:
        row = connection.execute(
            load("backfills.sql")["start_backfill"],
            {
                "source": source.name,
                "condition": where,
                "force": force,
                "total": total,
                "total_is_estimate": is_estimate,
            },
        ).fetchone()
        if row is None:
            raise RunConflict(f"a backfill of {source.name!r} is open already; wait for it, or cancel it")
        draft.details |= {"run": row[0], "force": force, "where": where is not None}
    return get(connection, row[0])


def get(connection: Connection, run_id: int) -> Run:
    """One run. Raises NoSuchRun."""
    found = _runs(connection, run_id=run_id)
    if not found:
        raise NoSuchRun(f"there is no backfill {run_id}")
    return found[0]


def recent(connection: Connection, source: str | None = None) -> list[Run]:
    """Runs, open ones first, then the newest; at most `MAX_LISTED`."""
    return _runs(connection, source=source)


def open_backfill(connection: Connection, source: str) -> Run | None:
    """The backfill of a source that is not through."""
    return next((run for run in recent(connection, source) if run.is_open and run.kind == "backfill"), None)


def pause(connection: Connection, run_id: int, *, who: str) -> Run:
    """Queue no more pages. What is queued goes on. Raises NoSuchRun, or RunConflict if it has ended."""
    with _audited(connection, who, "backfill_pause", run_id):
        return _touch(connection, "pause", run_id)


def resume(connection: Connection, run_id: int, *, who: str) -> Run:
    """Go on where it was paused. Raises NoSuchRun, or RunConflict if it has ended."""
    with _audited(connection, who, "backfill_resume", run_id):
        return _touch(connection, "resume", run_id)


def cancel(connection: Connection, run_id: int, *, who: str) -> Run:
    """Queue no more pages, and take back what nobody has claimed and nobody else asked for. The rest is worked on.

    Raises NoSuchRun, or RunConflict if it has ended or is no backfill.
    """
    run = get(connection, run_id)
    if run.kind != "backfill":
        raise RunConflict(f"run {run_id} keeps the index equal to the table; it can be paused, not cancelled")
    with _audited(connection, who, "backfill_cancel", run_id):
        _touch(connection, "close", run_id, state="cancelled", error=None)
        connection.execute(load("backfills.sql")["take_back"], {"id": run_id})
    return get(connection, run_id)


@contextmanager
def _audited(connection: Connection, who: str, action: Action, run_id: int) -> Iterator[None]:
    with audited(connection, who, action, get(connection, run_id).source) as draft:
        draft.details["run"] = run_id
        yield


def _touch(connection: Connection, query: str, run_id: int, **params: Any) -> Run:
    touched = connection.execute(load("backfills.sql")[query], {"id": run_id, **params}).fetchone()
    run = get(connection, run_id)
    if touched is None:
        raise RunConflict(f"run {run_id} has ended: it is {run.state}")
    return run


def _runs(connection: Connection, *, run_id: int | None = None, source: str | None = None) -> list[Run]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(load("backfills.sql")["runs"], {"id": run_id, "source": source, "limit": MAX_LISTED})
        return [_run(**row) for row in rows]


def _run(*, elapsed_s: float, **facts: Any) -> Run:
    rate = facts["done"] / elapsed_s if elapsed_s > 0 and facts["done"] else None
    total, running = facts["total"], facts["state"] == "running"
    eta_s = max(0, total - facts["done"]) / rate if running and rate and total is not None else None
    return Run(**facts, rate=rate and round(rate, 3), eta_s=None if eta_s is None else round(eta_s, 1))
