"""Backfills: reindex all items of a source, or some, with the machinery of the initial scan (`pager`).

A run is a row in Postgres. The leading listener queues its pages, whatever happens to the process that started it. A
source has at most one open backfill. Initial scans and resync scans are runs too and are listed here. They can't be
cancelled: without them the index would not be equal to the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import dict_row

from reindexer import budgets
from reindexer.audit import Action, audited
from reindexer.core.errors import ReindexerError
from reindexer.core.source import Source
from reindexer.core.trace import Attribute, Work, place_of
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources import condition
from reindexer.tracing import current
from reindexer.tracing.process import traces

MAX_LISTED = 100

Kind = Literal["first_fill", "whole_source", "backfill", "rebuild"]
RunState = Literal["running", "paused", "finished", "cancelled", "failed"]


class RunConflict(ReindexerError):
    """The run's state does not allow this, or another run is open."""


class NoSuchRun(ReindexerError):
    """There is no run with that id."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run and its progress."""

    id: int
    source: str
    kind: Kind
    state: RunState
    where: str | None
    force: bool
    total: int | None
    """Items that the run will have queued. None: not known yet."""
    total_is_estimate: bool
    queued: int
    done: int
    """Items queued and no longer due."""
    failed: int
    """Items of the source that failed while the run was open and are still FAILED, whatever the cause."""
    rate: float | None
    """Items done per second, on average since the start, without pauses."""
    eta_s: float | None
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    """Why the run failed or, while it runs, why it makes no progress."""

    @property
    def is_open(self) -> bool:
        """Whether the run is running or paused."""
        return self.finished_at is None


def start(
    connection: Connection, source: Source, *, who: str, where: str | None = None, force: bool = False,
    max_usd: float | None = None,
) -> Run:  # fmt: skip
    """Start a backfill for `who`. Without `force`, items whose text is unchanged are checked but not embedded again.

    `max_usd`: once backfills of the source have cost so much, its items wait.

    Raises ConditionRejected, SourceError, and RunConflict if the source has an open backfill.
    """
    if where is not None:
        condition.check(connection, source, where)
    total, is_estimate = condition.count(connection, source, where)
    with audited(connection, who, "backfill_start", source.name) as draft:
        budgets.begin_run(connection, source.name, max_usd)
        row = connection.execute(
            load("backfills.sql")["start_backfill"],
            {
                "source": source.name,
                "condition": where,
                "force": force,
                "total": total,
                "total_is_estimate": is_estimate,
                "traceparent": current.traceparent(),
            },
        ).fetchone()
        if row is None:
            raise RunConflict(f"a backfill of {source.name!r} is open already; wait for it, or cancel it")
        connection.execute(load("backfills.sql")["of_active"], {"run": row[0]})
        draft.details |= {"run": row[0], "force": force, "where": where is not None}
        if max_usd is not None:
            draft.details["max_usd"] = max_usd
    return get(connection, row[0])


def get(connection: Connection, run_id: int) -> Run:
    """Return one run. Raises NoSuchRun."""
    found = _runs(connection, run_id=run_id)
    if not found:
        raise NoSuchRun(f"there is no backfill {run_id}")
    return found[0]


def recent(connection: Connection, source: str | None = None) -> list[Run]:
    """Return at most `MAX_LISTED` runs: open ones first, then the newest."""
    return _runs(connection, source=source)


def open_backfill(connection: Connection, source: str) -> Run | None:
    """Return the source's open backfill. None: it has none."""
    return next((run for run in recent(connection, source) if run.is_open and run.kind == "backfill"), None)


def pause(connection: Connection, run_id: int, *, who: str) -> Run:
    """Queue no more pages. Queued items are still worked on. Raises NoSuchRun, or RunConflict if the run has ended."""
    with _audited(connection, who, "backfill_pause", run_id):
        _touch(connection, "pause", run_id)
    return get(connection, run_id)


def resume(connection: Connection, run_id: int, *, who: str) -> Run:
    """Continue a paused run. Raises NoSuchRun, or RunConflict if it has ended."""
    with _audited(connection, who, "backfill_resume", run_id):
        _touch(connection, "resume", run_id)
    return get(connection, run_id)


def cancel(connection: Connection, run_id: int, *, who: str) -> Run:
    """Queue no more pages, and remove queued items that no claim holds and nothing else asked for. The rest is worked
    on.

    Raises NoSuchRun, or RunConflict if the run has ended or is no backfill.
    """
    run = get(connection, run_id)
    if run.kind == "rebuild":
        raise RunConflict(f"run {run_id} fills a generation: reindexer rebuild {run.source} --cancel")
    if run.kind != "backfill":
        raise RunConflict(f"run {run_id} keeps the index equal to the table; it can be paused, not cancelled")
    with _audited(connection, who, "backfill_cancel", run_id):
        closed = _touch(connection, "close", run_id, state="cancelled", error=None)
        connection.execute(load("backfills.sql")["take_back"], {"id": run_id})
    tell(connection, [closed])
    return get(connection, run_id)


def tell(connection: Connection, ended: Sequence[tuple[int, str | None]]) -> None:
    """Tell runs that have just ended, each in the trace in which it was started. `ended`: id and traceparent."""
    if not ended or (to := traces()) is None:
        return
    for run_id, traceparent in ended:
        if (place := place_of(traceparent)) is None:
            continue
        run = get(connection, run_id)
        assert run.finished_at is not None
        attributes: dict[str, Attribute] = {
            "reindexer.run": run.id, "reindexer.source": run.source, "reindexer.kind": run.kind,
            "reindexer.outcome": run.state, "reindexer.items": run.queued, "reindexer.failed": run.failed,
        }  # fmt: skip
        error = run.error if run.state == "failed" else None
        to.tell(place, Work("run", _ns(run.started_at), _ns(run.finished_at), attributes, error))


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1_000


@contextmanager
def _audited(connection: Connection, who: str, action: Action, run_id: int) -> Iterator[None]:
    with audited(connection, who, action, get(connection, run_id).source) as draft:
        draft.details["run"] = run_id
        yield


def _touch(connection: Connection, query: str, run_id: int, **params: Any) -> Any:
    """Change an open run. Returns what the query returns of it."""
    touched = connection.execute(load("backfills.sql")[query], {"id": run_id, **params}).fetchone()
    if touched is None:
        raise RunConflict(f"run {run_id} has ended: it is {get(connection, run_id).state}")
    return touched


def _runs(connection: Connection, *, run_id: int | None = None, source: str | None = None) -> list[Run]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(load("backfills.sql")["runs"], {"id": run_id, "source": source, "limit": MAX_LISTED})
        return [_run(**row) for row in rows]


def _run(*, elapsed_s: float, **facts: Any) -> Run:
    rate = facts["done"] / elapsed_s if elapsed_s > 0 and facts["done"] else None
    total, running = facts["total"], facts["state"] == "running"
    eta_s = max(0, total - facts["done"]) / rate if running and rate and total is not None else None
    return Run(**facts, rate=rate and round(rate, 3), eta_s=None if eta_s is None else round(eta_s, 1))
