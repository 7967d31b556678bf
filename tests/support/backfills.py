"""Backfills of the built-in table, page by page in this process."""

from __future__ import annotations

from typing import Any

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.backfills.runs import Run
from reindexer.postgres.connect import Connection
from reindexer.sources.store import find_source
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work

KEY = {"Authorization": "Bearer test-admin-key"}
PATH = "/admin/backfills"


def start(db: Connection, **options: Any) -> Run:
    return runs.start(db, find_source(db, "context_items"), who="test", **options)


def walk(db: Connection, *, pages: int = 1_000) -> None:
    """Queue pages until there are no more, as the leading listener does."""
    while pages and walk_page(db, lambda name, _: find_source(db, name)):
        pages -= 1


def due(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.due").fetchone()
    assert row is not None
    return int(row[0])


def indexed(db: Connection, worker: Worker, count: int) -> list[str]:
    """So many items that are indexed already."""
    ids = [insert(db, f"text {n}", f"title {n}") for n in range(count)]
    work(db, worker)
    return ids
