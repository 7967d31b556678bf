"""Keys that fit the index of their own table and not ours: they work, under a name, and hold up nobody."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

import pytest
from alembic import command

from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.migrate import alembic_config
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.drain import drain
from reindexer.queue.requests import ReindexRequest
from reindexer.sources.attach import attach
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.collections import Collections
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import Flow, insert
from tests.support.index_reader import IndexReader

ROUGH = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(42))[:2680]
"""Fits an index of text by a few bytes, as it can hardly be compressed."""


@pytest.fixture
def flow(db: Connection, worker: Worker) -> Flow:
    db.execute("CREATE TABLE pages (url text PRIMARY KEY, body text)")
    db.execute("CREATE TABLE files (folder text, name text, body text, PRIMARY KEY (folder, name))")
    attach(db, Source("pages", "public", "pages", ("url",), ("body",)))
    attach(db, Source("files", "public", "files", ("folder", "name"), ("body",)))
    return Flow(db, worker)


def name_of(key: str) -> str:
    return f"{key[:200]}...sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def named(db: Connection, source: str) -> set[tuple[str, str]]:
    rows = db.execute("SELECT item_id, status FROM reindexer.item_status WHERE source = %s", [source])
    return {(item_id, outcome) for item_id, outcome in rows}


@pytest.mark.parametrize(
    "key", [ROUGH, "x" * 100_000, "ü" * 1301, "😀" * 651 + "a\\'\n"], ids=["rough", "100 kB", "umlauts", "astral"]
)
@pytest.mark.first(2)
def test_a_row_of_a_long_key_goes_by_a_name_from_its_first_text_to_its_deletion(
    db: Connection, flow: Flow, index: IndexReader, env: Mapping[str, str], here: Callable[..., Done], key: str
) -> None:
    points, item_id = IndexReader(index.client, "pages"), name_of(key)
    other = insert(db, "of another source")
    db.execute("INSERT INTO pages VALUES (%s, 'first'), ('short', 'short')", [key])
    eventually(flow.settles)
    assert index.holds(other, vector_of("of another source"))
    assert named(db, "pages") == {(item_id, "COMPLETED"), ("short", "COMPLETED")}
    assert points.holds(item_id, vector_of("first"))
    db.execute("UPDATE pages SET body = 'second' WHERE url = %s", [key])
    eventually(flow.settles)
    assert points.holds(item_id, vector_of("second"))
    for known_as in (key, item_id) if len(key) < 3_000 else (item_id,):
        assert json.loads(here("why", "pages", known_as, "--json", env=env).stdout)["item_id"] == item_id
    assert (
        requests.record(
            db, "pages", [ReindexRequest("w1", key), ReindexRequest("w2", "short")], lane=Lane.BULK, sent=True
        )
        == 2
    )
    eventually(flow.settles)
    told = requests.task_state(db, "w1")
    assert told is not None
    assert (told.state, told.item_id) == ("SUCCESS", item_id)
    db.execute("DELETE FROM reindexer.long_key")
    db.execute("DELETE FROM reindexer.ledger WHERE source = 'pages'")
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('pages', 'whole_source')")
    eventually(flow.settles)
    assert named(db, "pages") == {(item_id, "COMPLETED"), ("short", "COMPLETED")}, "a walk names them, too"
    compared = json.loads(here("reconcile", "pages", "--json", env=env).stdout)
    assert (compared["equal"], compared["rows"], compared["points"]) == (True, 2, 2)
    db.execute("UPDATE pages SET url = 'moved' WHERE url = %s", [key])
    eventually(flow.settles)
    assert points.payload(item_id) is None
    assert points.count() == 2
    db.execute("UPDATE pages SET url = %s WHERE url = 'moved'", [key])
    eventually(flow.settles)
    db.execute("TRUNCATE pages")
    eventually(flow.settles)
    assert points.count() == 0


def test_what_is_missing_or_orphaned_under_a_name_is_found_and_mended(
    db: Connection, flow: Flow, index: IndexReader, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    points, item_id = IndexReader(index.client, "files"), name_of(json.dumps(["c", ROUGH[:2600]]))
    db.execute("INSERT INTO files VALUES ('c', %s, 'text')", [ROUGH[:2600]])
    eventually(flow.settles)
    assert points.holds(item_id, vector_of("text"))
    index.client.delete_collection("files__g1")
    flow.worker.collections = Collections()
    db.execute("DELETE FROM reindexer.long_key")
    assert json.loads(here("reconcile", "files", "--repair", "--json", env=env).stdout)["missing"] == 1
    eventually(flow.settles)
    assert points.holds(item_id, vector_of("text"))
    db.execute("ALTER TABLE files DISABLE TRIGGER USER; DELETE FROM files; ALTER TABLE files ENABLE TRIGGER USER")
    assert json.loads(here("reconcile", "files", "--repair", "--json", env=env).stdout)["orphaned"] == 1
    eventually(lambda: flow.settles() or points.count() == 0)
    assert points.count() == 0


def test_a_key_that_only_looks_like_a_name_is_itself(db: Connection, flow: Flow, index: IndexReader) -> None:
    key = name_of(ROUGH)
    db.execute("INSERT INTO pages VALUES (%s, 'alike')", [key])
    eventually(flow.settles)
    assert IndexReader(index.client, "pages").holds(key, vector_of("alike"))


def test_an_upgrade_brings_what_fitted_until_now_under_its_name(
    db: Connection, flow: Flow, database: str, index: IndexReader
) -> None:
    key = "y" * 5_000
    db.execute("INSERT INTO pages VALUES (%s, 'text')", [key])
    eventually(flow.settles)
    command.downgrade(alembic_config(database), "0004")
    db.execute("UPDATE reindexer.ledger SET item_id = %s WHERE source = 'pages'", [key])
    command.upgrade(alembic_config(database), "head")
    flow.worker.postgres.close()
    flow.worker.run_lane(Lane.BULK, budget_s=0.5)
    assert named(db, "pages") == set(), "what was indexed under the key is gone"
    eventually(flow.settles)
    assert named(db, "pages") == {(name_of(key), "COMPLETED")}


def test_names_of_what_is_gone_are_forgotten_with_their_source(db: Connection, flow: Flow) -> None:
    db.execute("INSERT INTO pages VALUES (%s, 'text')", [ROUGH])
    drain(db)
    assert db.execute("SELECT count(*) FROM reindexer.long_key").fetchone() == (1,)
    db.execute("DELETE FROM reindexer.source WHERE name = 'pages'")
    assert db.execute("SELECT count(*) FROM reindexer.long_key").fetchone() == (0,)
