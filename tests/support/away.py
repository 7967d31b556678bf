"""A provider that is away, and what a point holds meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reindexer.postgres.connect import Connection
from reindexer.queue.breaker import open_breakers
from reindexer.testing.provider import FakeProvider, error
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader


class Away:
    """A provider that says 502, as a gateway does behind which nobody answers."""

    def __init__(self, db: Connection, worker: Worker, provider: FakeProvider) -> None:
        self._db, self._worker, self._provider = db, worker, provider

    def goes(self) -> None:
        """Away, and its breaker is open; the next probe is far off."""
        self._provider.behave = lambda call: error(502)
        self._worker.breaker = replace(self._worker.breaker, opens_at=1)
        insert(self._db, "it is found out by this one", "public")
        work(self._db, self._worker)
        assert [each.dependency for each in open_breakers(self._db)] == ["provider"]
        self._db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
        self._provider.calls.clear()

    def returns(self) -> None:
        """And may be asked: all that waited is done."""
        self._provider.behave = lambda call: None
        self._db.execute("UPDATE reindexer.breaker SET probe_at = now()")
        self._db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
        eventually(lambda: work(self._db, self._worker) == 0 and not marked(self._db))
        assert open_breakers(self._db) == []


def marked(db: Connection) -> list[str]:
    """Items of which it is known that nothing but their embedding is left to do."""
    return [i for (i,) in db.execute("SELECT item_id FROM reindexer.due WHERE marked ORDER BY item_id")]


def payload(index: IndexReader, item_id: str, chunk: int = 0) -> Mapping[str, object]:
    """The source's columns of a point."""
    found = index.payload(item_id, chunk)
    assert found is not None
    return {name: value for name, value in found.items() if name != "_reindexer"}


def facts(index: IndexReader, item_id: str, chunk: int = 0) -> Mapping[str, object]:
    """What a point says of its text."""
    found = index.payload(item_id, chunk)
    assert found is not None
    return {name: found["_reindexer"][name] for name in ("fingerprint", "span", "chunk")}


def change(db: Connection, item_id: str, content: str, tenant: str) -> None:
    db.execute(
        "UPDATE context_items SET content = %s, metadata = jsonb_build_object('tenant', %s::text) WHERE id = %s",
        [content, tenant, item_id],
    )
