"""Two sides to compare: a table with its index, in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from reindexer.index import reconcile
from reindexer.index.difference import Kind
from reindexer.index.reconcile import Findings, Sides
from reindexer.index.search import collection_of
from reindexer.postgres.connect import Connection
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.store import find_source
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader

KINDS: tuple[Kind, ...] = ("missing", "stale", "orphaned")


def sides(db: Connection, worker: Worker) -> Sides:
    source = find_source(db, "context_items")
    return Sides(
        db, worker.index, source, collection_of(db, source), embedding_spec_of(source, worker.embedder_of(source)), 5
    )


@contextmanager
def compared(
    db: Connection, worker: Worker, progress: reconcile.Progress = lambda stage, done: None, wait_s: float = 0
) -> Iterator[Findings]:
    findings = reconcile.compare(sides(db, worker), progress, wait_s=wait_s, pause_s=0.05)
    with closing(findings):
        yield findings


def differences(db: Connection, worker: Worker, wait_s: float = 0) -> dict[str, list[str]]:
    """The ids of what differs, by kind."""
    with compared(db, worker, wait_s=wait_s) as findings:
        assert [len(findings.examples[kind]) for kind in KINDS] == [getattr(findings, kind) for kind in KINDS]
        return {kind: sorted(ids) for kind, ids in findings.examples.items() if ids}


def repair(db: Connection, worker: Worker, max_deletions: int | None = None) -> int:
    """Compare, repair, and let the worker mend until nothing is due."""
    with compared(db, worker) as findings:
        queued = reconcile.repair(sides(db, worker), findings, who="test", max_deletions=max_deletions)
    finish_work(db, worker)
    return queued


def finish_work(db: Connection, worker: Worker) -> None:
    def idle() -> bool:
        work(db, worker)
        return db.execute("SELECT FROM reindexer.due").fetchone() is None

    eventually(idle, within=20)


def assert_index_equals_table(db: Connection, index: IndexReader) -> None:
    """Nothing of ours in it: every row's point has the provider's vector of its text, and there is no other point."""
    rows = db.execute("SELECT id::text, title, content, metadata FROM context_items").fetchall()
    wanted = {item_id: (title, content, metadata) for item_id, title, content, metadata in rows if content.strip()}
    assert index.count() == len(wanted)
    for item_id, (title, content, metadata) in wanted.items():
        assert index.holds(item_id, vector_of(f"{title}\n{content}" if title else content)), item_id
        payload = index.payload(item_id)
        assert payload is not None
        assert (payload["title"], payload["metadata"]) == (title, metadata)


def ready(db: Connection, worker: Worker, count: int) -> list[str]:
    ids = [insert(db, f"text {n}") for n in range(count)]
    finish_work(db, worker)
    return ids
