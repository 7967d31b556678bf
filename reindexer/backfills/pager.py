"""Pages of open runs: queue them into the `bulk` lane.

A backfill covers all rows, or those that its condition selects. An initial scan and a resync scan cover all rows, and
then the items in the ledger that have no row. The second part removes items from the index whose rows are gone without
a trace (TRUNCATE, a dropped partition).

A page is queued only while the lane's backlog is short, so that `due` stays small however large the table is. After a
crash a run resumes at its cursor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from psycopg.rows import class_row

from reindexer.backfills import runs
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue import marks
from reindexer.sources import condition
from reindexer.sources.key_pages import Page, key_page
from reindexer.sources.rows import without_row

log = structlog.get_logger(__name__)

PAGE = 2_000
MAX_BACKLOG = 20_000
"""No page is added while the bulk lane has more items of the source than this."""
PAGE_S = 5.0
"""Timeout for reading a page. A condition that takes longer ends its run."""
UNREADABLE_WAIT_S = 10.0
"""How long a run waits if its source can't be read. Other runs go on."""


@dataclass(frozen=True, slots=True)
class _Run:
    id: int
    source: str
    generation: int
    kind: str
    state: str
    cursor: str | None
    condition: str | None
    force: bool
    uncounted: bool
    as_of: str

    def after(self, page: Page) -> str:
        """Return the state that follows this page."""
        if page.last is not None:
            return self.state
        # A generation that is new knows no item that could have lost its row before the fill began.
        looks = self.kind in ("first_fill", "whole_source")
        return "ledger" if self.state == "rows" and looks else "working"  # guard walk-ledger-pass


def rebuild_if_lost(connection: Connection, source: str, generation: int, collection_id: str | None) -> bool:
    """Start a rebuild of a generation if its collection is not the recorded one. Returns False if it is, or if it is
    the first.

    A process that prepares a collection calls this before it writes. The first process that sees the collection records
    it.
    """
    parameters = {"source": source, "generation": generation, "collection_id": collection_id}
    return connection.execute(load("backfills.sql")["rebuild_if_lost"], parameters).fetchone() is not None


def walk_page(connection: Connection, source_of: Callable[[str, int], Source]) -> bool:
    """Queue the next page of one open run, and finish runs whose work is done. Returns False if there is no page to
    queue.

    A condition that fails ends its run. Raises SourceError if a source can't be read; its runs then wait for a while.
    """
    queries = load("backfills.sql")
    runs.tell(connection, connection.execute(queries["finish"]).fetchall())
    marks.hand_over_runs(connection)  # guard mark-run-handed-over
    with connection.cursor(row_factory=class_row(_Run)) as cursor:
        run = cursor.execute(queries["next_run"], {"max_backlog": MAX_BACKLOG}).fetchone()
    if run is None:
        return False
    try:
        source = source_of(run.source, run.generation)
        page = _read(connection, source, run)
        expected = _expected(connection, source, run)
    except condition.ConditionRejected as exc:
        log.error("run_failed", run=run.id, source=run.source, error=str(exc))
        closing = {"id": run.id, "state": "failed", "error": str(exc)}
        runs.tell(connection, connection.execute(queries["close"], closing).fetchall())
        return True
    except SourceError as exc:
        connection.execute(queries["postpone"], {"id": run.id, "error": str(exc), "wait_s": UNREADABLE_WAIT_S})
        raise
    except UsageError:
        return True  # just detached, together with its runs
    _queue(connection, run, page, expected)
    return True


def _read(connection: Connection, source: Source, run: _Run) -> Page:
    if run.state == "rows":
        return key_page(connection, source, run.cursor, PAGE, where=run.condition, timeout_s=PAGE_S)
    params = {"source": run.source, "cursor": run.cursor, "page": PAGE}
    item_ids = [str(item_id) for (item_id,) in connection.execute(load("backfills.sql")["ledger_page"], params)]
    gone = without_row(connection, source, item_ids)
    return Page(tuple(gone), item_ids[-1] if len(item_ids) == PAGE else None)


def _expected(connection: Connection, source: Source, run: _Run) -> int | None:
    """Return how many items will be queued, if the total is unknown. Items without a row are counted as they are
    found."""
    if not run.uncounted:
        return None
    return condition.estimate(connection, source, run.condition) if run.state == "rows" else 0


def _queue(connection: Connection, run: _Run, page: Page, expected: int | None) -> None:
    """Queue a page and advance the cursor in one transaction. Does nothing if the run was paused, cancelled or
    restarted."""
    queries = load("backfills.sql")
    with connection.transaction():
        if connection.execute(queries["lock"], {"id": run.id, "as_of": run.as_of}).fetchone() is None:
            return
        connection.execute(
            queries["queue_page"],
            {
                "run_id": run.id,
                "item_ids": list(page.item_ids),
                "force": run.force,
                "takes_over": run.kind in ("backfill", "rebuild"),
            },
        )
        connection.execute(
            queries["advance"],
            {
                "id": run.id,
                "state": run.after(page),
                "cursor": page.last,
                "queued": len(page.item_ids),
                "expected": expected,
            },
        )
