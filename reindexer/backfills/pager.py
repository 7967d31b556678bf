"""Walks: the pages of open runs, into the `bulk` lane. A backfill's rows, or those that its condition picks; of a first
fill and of a change of the whole source all rows, and then the items that the ledger knows and that have no row.

That last part is what takes rows out of the index that are gone without a trace (TRUNCATE, a dropped partition). A page
is queued only while the lane's backlog is short, so that `due` stays small however large the table is. A crash resumes
at the cursor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from psycopg.rows import class_row

from reindexer.core.errors import SourceError, UsageError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources import condition
from reindexer.sources.key_pages import Page, key_page
from reindexer.sources.rows import without_row

log = structlog.get_logger(__name__)

PAGE = 2_000
MAX_BACKLOG = 20_000
"""Items of a source in the bulk lane beyond which no page is added."""
PAGE_S = 5.0
"""How long a page may take to read; a condition that takes longer ends its run."""
UNREADABLE_WAIT_S = 10.0
"""How long a run waits whose source can't be read; the others go on."""


@dataclass(frozen=True, slots=True)
class _Run:
    id: int
    source: str
    kind: str
    state: str
    cursor: str | None
    condition: str | None
    force: bool
    uncounted: bool
    as_of: str

    def after(self, page: Page) -> str:
        """The state that follows this page."""
        if page.last is not None:
            return self.state
        return "ledger" if self.state == "rows" and self.kind != "backfill" else "working"  # guard walk-ledger-pass


def rebuild_if_lost(connection: Connection, source: str, collection_id: str | None) -> bool:
    """Write all items of a source again if its collection is not the one that was noted; False if it is, or if it is
    the first. Whoever prepares a collection asks before it writes: the first to see it notes it."""
    parameters = {"source": source, "collection_id": collection_id}
    return connection.execute(load("backfills.sql")["rebuild_if_lost"], parameters).fetchone() is not None


def walk_page(connection: Connection, source_of: Callable[[str], Source]) -> bool:
    """Queue the next page of one open run, and finish those whose work is done; False if there is no page to queue.

    A condition that fails ends its run. Raises SourceError if a source can't be read; its runs then wait for a while.
    """
    queries = load("backfills.sql")
    connection.execute(queries["finish"])
    with connection.cursor(row_factory=class_row(_Run)) as cursor:
        run = cursor.execute(queries["next_run"], {"max_backlog": MAX_BACKLOG}).fetchone()
    if run is None:
        return False
    try:
        source = source_of(run.source)
        page = _read(connection, source, run)
        expected = _expected(connection, source, run)
    except condition.ConditionRejected as exc:
        log.error("run_fails", run=run.id, source=run.source, error=str(exc))
        connection.execute(queries["close"], {"id": run.id, "state": "failed", "error": str(exc)})
        return True
    except SourceError as exc:
        connection.execute(queries["postpone"], {"id": run.id, "error": str(exc), "wait_s": UNREADABLE_WAIT_S})
        raise
    except UsageError:
        return True  # detached just now, and its runs with it
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
    """Where the total is not known: how many items will be queued. Those gone are counted as they are found."""
    if not run.uncounted:
        return None
    return condition.estimate(connection, source, run.condition) if run.state == "rows" else 0


def _queue(connection: Connection, run: _Run, page: Page, expected: int | None) -> None:
    """Page and cursor in one transaction; nothing if the run was paused, cancelled or started anew meanwhile."""
    queries = load("backfills.sql")
    with connection.transaction():
        if connection.execute(queries["lock"], {"id": run.id, "as_of": run.as_of}).fetchone() is None:
            return
        connection.execute(
            queries["queue_page"],
            {
                "run_id": run.id,
                "source": run.source,
                "item_ids": list(page.item_ids),
                "force": run.force,
                "takes_over": run.kind == "backfill",
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
