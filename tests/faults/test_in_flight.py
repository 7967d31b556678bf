"""Rows that change while a worker has them: between its read and its settling."""

from __future__ import annotations

from reindexer.backfills.pager import walk_page
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader


def walk(db: Connection) -> None:
    """All pages of all runs."""
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass


def test_rows_that_are_truncated_while_their_first_embedding_is_in_flight_leave_no_point(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    insert(db, "in flight")

    def truncated_meanwhile(call: Call) -> None:
        db.execute("TRUNCATE context_items")
        drain(db)
        walk(db)

    provider.behave = truncated_meanwhile
    work(db, worker)
    walk(db)
    work(db, worker)
    assert provider.inputs == ["in flight"]
    assert index.count() == 0
