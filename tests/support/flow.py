"""What listener and worker do, in the test's own process; and writes of every kind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from reindexer.backfills.fan_out import fan_out
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import SourceError
from reindexer.core.lanes import Lane
from reindexer.monitoring.status import status as whole_status
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.worker.worker import Worker

WATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class Flow:
    """What listener and worker do, in this process."""

    db: Connection
    worker: Worker

    def settles(self) -> bool:
        """Drain, walk and work on what is there; True when nothing is left to do and the triggers are well."""
        drain(self.db)
        while fan_out(self.db, lambda name: find_source(self.db, name)):
            drain(self.db)
        with suppress(SourceError):
            while walk_page(self.db, lambda name, _: find_source(self.db, name)):
                pass
        self.worker.run_lane(Lane.LIVE, budget_s=0.5)
        self.worker.run_lane(Lane.BULK, budget_s=0.5)
        with suppress(SourceError):
            walk_page(self.db, lambda name, _: find_source(self.db, name))
        return whole_status(self.db).triggers == "ok" and idle(self.db)  # in this order: mending starts a run


def writes(db: Connection) -> None:
    """One of each kind, by a session whose plans may be from before."""
    db.execute("INSERT INTO context_items (title, content) VALUES ('new', 'unseen')")
    db.execute("UPDATE context_items SET content = content || ', edited unseen' WHERE title = 'first'")
    db.execute("DELETE FROM context_items WHERE title = 'second'")


def fill(db: Connection) -> None:
    for title in ("first", "second", "third", "fourth"):
        insert(db, f"text of {title}", title)


def insert(db: psycopg.Connection[Any], content: str, title: str | None = None) -> str:
    row = db.execute(
        "INSERT INTO context_items (title, content) VALUES (%s, %s) RETURNING id::text", [title, content]
    ).fetchone()
    assert row is not None
    return str(row[0])


def work(db: Connection, worker: Worker) -> int:
    """Drain and work until nothing is ready."""
    drain(db)
    return worker.run_lane(Lane.LIVE, budget_s=5) + worker.run_lane(Lane.BULK, budget_s=5)


def status(db: Connection, item_id: str) -> tuple[str, str | None] | None:
    row = db.execute("SELECT status, error FROM reindexer.item_status WHERE item_id = %s", [item_id]).fetchone()
    return (row[0], row[1]) if row else None


def idle(db: Connection) -> bool:
    row = db.execute(
        "SELECT (SELECT count(*) FROM reindexer.outbox) + (SELECT count(*) FROM reindexer.fan_out) + (SELECT count(*) FROM reindexer.due)"
        " + (SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL)"
    ).fetchone()
    return row == (0,)
