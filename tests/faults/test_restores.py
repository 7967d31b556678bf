"""Postgres and Qdrant that are no longer of the same time: data lost, older snapshots, older backups, a clock set back.

Each ends with the independent look of `assert_index_equals_table`, and with edits that still reach Qdrant.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from qdrant_client import models

from reindexer.core.items import point_id
from reindexer.postgres.connect import Connection, Postgres, connect
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.worker.collections import Collections
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.reconciling import assert_index_equals_table, differences, finish_work, ready, repair
from tests.support.restoring import COLLECTION, backup, points
from tests.support.servers import Servers

DAY = 86_400 * 1_000_000
"""In the unit of tokens."""


def edit(db: Connection, item_id: str, content: str) -> None:
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", [content, item_id])


def delete(db: Connection, item_id: str) -> None:
    db.execute("DELETE FROM context_items WHERE id = %s", [item_id])


def retitle(db: Connection, item_id: str, title: str) -> None:
    """A change of text and payload."""
    db.execute("UPDATE context_items SET title = %s WHERE id = %s", [title, item_id])


def note(db: Connection, item_id: str) -> None:
    """A change of the payload alone."""
    db.execute("""UPDATE context_items SET metadata = metadata || '{"noted": true}' WHERE id = %s""", [item_id])


def every_edit_still_reaches_qdrant(db: Connection, worker: Worker, index: IndexReader) -> None:
    """Of every row that there is: text, payload, delete, and a key that comes back."""
    ids = [str(row[0]) for row in db.execute("SELECT id FROM context_items ORDER BY id")]
    assert len(ids) >= 3
    edit(db, ids[0], "edited after all that")
    retitle(db, ids[1], "retitled after all that")
    for item_id in ids[2:-1]:
        note(db, item_id)
    delete(db, ids[-1])
    finish_work(db, worker)
    assert_index_equals_table(db, index)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'came back')", [ids[-1]])
    finish_work(db, worker)
    assert_index_equals_table(db, index)


@pytest.mark.parametrize("lost", ["the collection", "its points", "half of its points"])
@pytest.mark.first(1)
def test_qdrant_lost_its_data(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, lost: str
) -> None:
    ids = ready(db, worker, 6)
    gone = ids if lost != "half of its points" else ids[:3]
    if lost == "the collection":
        index.client.delete_collection(COLLECTION)
    else:
        index.client.delete(COLLECTION, models.FilterSelector(filter=models.Filter(must=[
            models.FieldCondition(key="_reindexer.item_id", match=models.MatchAny(any=gone))])), wait=True)  # fmt: skip
    assert db.execute("SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED'").fetchone() == (6,)
    assert differences(db, worker) == {"missing": sorted(gone)}
    provider.calls.clear()
    assert repair(db, worker) == len(gone)
    # A worker that has seen the collection lately learns only by its write that it is gone, and does that batch again.
    assert len(provider.inputs) <= len(gone) * (2 if lost == "the collection" else 1), "what is there costs nothing"
    assert differences(db, worker) == {}
    assert_index_equals_table(db, index)
    every_edit_still_reaches_qdrant(db, worker, index)


def test_qdrant_was_restored_from_an_older_snapshot(db: Connection, worker: Worker, index: IndexReader) -> None:
    edited, noted, deleted, reverted, _ = ready(db, worker, 5)
    snapshot = points(index)
    for step in ("B", "text 3"):  # away and back: its point is as it was, but for the token
        edit(db, reverted, step)
        finish_work(db, worker)
    edit(db, edited, "newer")
    note(db, noted)
    delete(db, deleted)
    inserted = insert(db, "inserted")
    finish_work(db, worker)
    assert_index_equals_table(db, index)
    restore(index, snapshot)
    assert differences(db, worker) == {
        "missing": [inserted], "stale": sorted([edited, noted]), "orphaned": [deleted],
    }  # fmt: skip
    assert repair(db, worker) == 4
    assert differences(db, worker) == {}
    assert_index_equals_table(db, index)
    every_edit_still_reaches_qdrant(db, worker, index)


@pytest.mark.parametrize("clock", ["right", "set back by a day"])
@pytest.mark.first(1)
def test_postgres_was_restored_to_an_earlier_time(
    database: str,
    worker: Worker,
    index: IndexReader,
    servers: Servers,
    clock: str,
    env: Mapping[str, str],
    here: Callable[..., Done],
) -> None:
    with connect(database, application_name="test") as db:
        edited, noted, deleted, untouched, spare = ready(db, worker, 5)
    worker.postgres.close()
    with backup(servers, database) as restored:
        with connect(database, application_name="test") as db:
            edit(db, edited, "newer")
            note(db, noted)
            delete(db, deleted)
            inserted, short_lived = insert(db, "inserted"), insert(db, "deleted again")
            finish_work(db, worker)
            delete(db, short_lived)
            finish_work(db, worker)
            assert_index_equals_table(db, index)
        worker.postgres.close()
        if clock != "right":
            tokens_of_the_future(index)
        worker = replace(worker, postgres=Postgres(restored, application_name="test"), collections=Collections())
        assert here("adopt", env={**env, "DATABASE_URL": restored}).returncode == 0  # it is another database by name
        with connect(restored, application_name="test") as db:
            edit(db, spare, "edited before anybody compares")
            finish_work(db, worker)
            assert index.payload(spare) is not None
            assert differences(db, worker) == {
                "missing": [deleted], "stale": sorted([edited, noted]), "orphaned": [inserted],
            }  # fmt: skip
            assert repair(db, worker) == 4
            assert differences(db, worker) == {}
            assert_index_equals_table(db, index)
            every_edit_still_reaches_qdrant(db, worker, index)
            assert untouched in {str(row[0]) for row in db.execute("SELECT id FROM context_items")}
        worker.postgres.close()


def test_the_clock_was_set_back(db: Connection, worker: Worker, index: IndexReader) -> None:
    """Tokens are made of the time. Those of yesterday's clock are higher, in Qdrant and in the ledger."""
    ready(db, worker, 4)
    db.execute("UPDATE reindexer.ledger SET token = token + %s", [DAY])
    tokens_of_the_future(index)
    every_edit_still_reaches_qdrant(db, worker, index)
    assert differences(db, worker) == {}


def test_a_repair_is_above_a_token_of_the_future_that_only_qdrant_knows(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """Surplus chunks too: reading back after a delete looks for the first chunk only."""
    orphan = str(uuid.uuid4())
    (item_id,) = ready(db, worker, 1)
    index.client.upsert(
        COLLECTION, [second_chunk(orphan, version=2**52), second_chunk(item_id, version=2**52)], wait=True
    )
    assert differences(db, worker) == {"orphaned": sorted([orphan, item_id])}
    assert repair(db, worker) == 2
    assert_index_equals_table(db, index)


def second_chunk(item_id: str, version: int) -> models.PointStruct:
    facts = {"source": "context_items", "item_id": item_id, "chunk": 1, "version": version, "fingerprint": "x"}
    return models.PointStruct(
        id=point_id("context_items", item_id, 1), vector=vector_of("x").tolist(), payload={"_reindexer": facts}
    )


def restore(index: IndexReader, snapshot: Sequence[models.PointStruct]) -> None:
    """The collection holds these points and no other."""
    index.client.delete(COLLECTION, models.FilterSelector(filter=models.Filter()), wait=True)
    index.client.upsert(COLLECTION, list(snapshot), wait=True)


def tokens_of_the_future(index: IndexReader) -> None:
    """As if the clock had been a day ahead when the points were written."""
    for point in points(index):
        facts = (point.payload or {})["_reindexer"]
        future = {"version": facts["version"] + DAY}
        index.client.set_payload(COLLECTION, future, [point.id], key="_reindexer", wait=True)
