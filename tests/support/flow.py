"""What listener and worker do, in the test's own process; and writes of every kind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from reindexer.backfills.pager import walk_page
from reindexer.core.errors import SourceError
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.worker.worker import Worker
from tests.integration.test_drain_to_settle import insert
from tests.integration.test_four_processes import idle

WATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class Flow:
    """What listener and worker do, in this process."""

    db: Connection
    worker: Worker

    def settles(self) -> bool:
        """Drain, walk and work on what is there; True when nothing is left to do and the triggers are well."""
        drain(self.db)
        with suppress(SourceError):
            while walk_page(self.db, lambda name: find_source(self.db, name)):
                pass
        self.worker.run_lane("live", budget_s=0.5)
        self.worker.run_lane("bulk", budget_s=0.5)
        with suppress(SourceError):
            walk_page(self.db, lambda name: find_source(self.db, name))
        return status(self.db).triggers == "ok" and idle(self.db)  # in this order: mending starts a run


def writes(db: Connection) -> None:
    """One of each kind, by a session whose plans may be from before."""
    db.execute("INSERT INTO context_items (title, content) VALUES ('new', 'unseen')")
    db.execute("UPDATE context_items SET content = content || ', edited unseen' WHERE title = 'first'")
    db.execute("DELETE FROM context_items WHERE title = 'second'")


def fill(db: Connection) -> None:
    for title in ("first", "second", "third", "fourth"):
        insert(db, f"text of {title}", title)
