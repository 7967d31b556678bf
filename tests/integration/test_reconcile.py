"""Reconcile: what it finds, what it leaves alone, and how it mends. Restores are in tests/faults/test_restores.py."""

from __future__ import annotations

import json
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import pytest
from qdrant_client import models

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.items import StoredPoint, point_id
from reindexer.core.lanes import Lane
from reindexer.core.text.chunks import Span
from reindexer.index import reconcile
from reindexer.index.reconcile import TooManyDeletions
from reindexer.ports import Point
from reindexer.postgres.connect import Connection
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.reconciling import (
    KINDS,
    assert_index_equals_table,
    compared,
    differences,
    finish_work,
    ready,
    repair,
    sides,
)
from tests.support.servers import Servers


def put(worker: Worker, db: Connection, item_id: str, chunk: int = 0, token: int = 7, text: str = "x") -> None:
    """A point of ours that no worker wrote."""
    point = Point(item_id, chunk, vector_of(text), {}, "print", Span(0, 1))
    worker.index.upsert(sides(db, worker).collection, [point], token, 5)


def test_nothing_differs_when_all_is_indexed(db: Connection, worker: Worker, index: IndexReader) -> None:
    ready(db, worker, 3)
    insert(db, " ")
    finish_work(db, worker)
    with compared(db, worker) as findings:
        facts = {name: value for name, value in asdict(replace(findings, wrong=None)).items() if value}  # type: ignore[arg-type]
    assert facts == {"rows": 4, "points": 3, "examples": {kind: [] for kind in KINDS}}


def test_each_kind_of_difference_is_found_whatever_the_ledger_says_and_repaired(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    missing, text, payload, gone, chunked, blank, fine = ready(db, worker, 7)
    index.client.delete("context_items", [point_id("context_items", missing, 0)], wait=True)
    put(worker, db, text, token=2**52, text="of another text")
    index.client.set_payload("context_items", {"title": "other"}, [point_id("context_items", payload, 0)], wait=True)
    put(worker, db, chunked, chunk=1, token=2**52)
    unknown, impossible = str(uuid.uuid4()), "not-a-uuid"
    put(worker, db, unknown)
    put(worker, db, impossible, token=2**52)
    put(worker, db, fine.upper())  # another spelling is another point, but not another row
    db.execute("DELETE FROM context_items WHERE id = %s", [gone])
    db.execute("UPDATE context_items SET content = ' ' WHERE id = %s", [blank])
    db.execute("DELETE FROM reindexer.outbox")  # as if those changes had never been told
    wanted = {
        "missing": [missing],
        "stale": sorted([text, payload]),
        "orphaned": sorted([gone, chunked, blank, unknown, impossible, fine.upper()]),
    }
    assert differences(db, worker) == wanted
    assert differences(db, worker) == wanted, "a comparison changes nothing"
    embedded = len(provider.inputs)
    assert repair(db, worker) == 9
    assert differences(db, worker) == {}
    assert_index_equals_table(db, index)
    assert len(provider.inputs) - embedded == 4, "what does not differ is not embedded again"
    assert not db.execute("SELECT FROM reindexer.ledger WHERE outcome = 'FAILED'").fetchall()


def test_foreign_points_are_counted_and_never_touched(db: Connection, worker: Worker, index: IndexReader) -> None:
    ready(db, worker, 1)
    other = {"source": "other", "item_id": "1", "chunk": 0, "version": 1, "fingerprint": "x"}
    payloads = [{}, {"_reindexer": other}, {"_reindexer": {**other, "source": "context_items"}}]
    index.client.upsert(
        "context_items",
        [models.PointStruct(id=n, vector=vector_of("x").tolist(), payload=p) for n, p in enumerate(payloads)],
        wait=True,
    )
    with compared(db, worker) as findings:
        assert (findings.points, findings.foreign, findings.differences) == (1, 3, 0)
    assert repair(db, worker) == 0
    assert index.count() == 4


def test_what_is_in_flight_is_no_difference(db: Connection, worker: Worker, index: IndexReader) -> None:
    """Neither while its change waits in the outbox, nor while it is due, nor while a walk has yet to come to it."""
    edited, deleted = ready(db, worker, 2)
    db.execute("UPDATE context_items SET content = 'new' WHERE id = %s", [edited])
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    insert(db, "inserted")
    with compared(db, worker) as findings:
        assert (findings.differences, findings.unsettled) == (0, 3)
    finish_work(db, worker)
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'whole_source')")
    index.client.delete("context_items", [point_id("context_items", edited, 0)], wait=True)
    with compared(db, worker) as findings:
        assert (findings.differences, findings.unsettled) == (0, 1)
    db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
    assert differences(db, worker) == {"missing": [edited]}


def test_what_settles_during_the_comparison_is_no_difference(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    edited, deleted = ready(db, worker, 2)
    done = list[str]()

    def meanwhile(stage: str, _: int) -> None:
        if stage == "rows":
            db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
            db.execute("UPDATE context_items SET content = 'new' WHERE id = %s", [edited])
            insert(db, "inserted")
        if stage == "second look" and stage not in done:
            work(db, worker)
        done.append(stage)

    with compared(db, worker, meanwhile, wait_s=20) as findings:
        assert (findings.differences, findings.unsettled) == (0, 0)
    assert done.count("second look") == 2
    assert_index_equals_table(db, index)


def test_an_edit_that_is_settled_between_two_questions_of_the_second_look_is_no_difference(
    db: Connection, worker: Worker, index: IndexReader, servers: Servers
) -> None:
    """The row is read, then edited and indexed, then its point is read: only the token tells that this happened."""
    (item_id,) = ready(db, worker, 1)
    put(worker, db, item_id, token=2**52)
    looks = list[int]()

    class Between(QdrantIndex):
        def stored(self, *question: Any, payload: bool = True) -> Mapping[tuple[str, int], StoredPoint]:
            looks.append(1)
            if len(looks) == 2:
                db.execute("UPDATE context_items SET content = 'new'")
                finish_work(db, worker)
            return super().stored(*question)

    between = Between(servers.qdrant_url, api_key=None, grpc_port=None)
    findings = reconcile.compare(replace(sides(db, worker), index=between), lambda *_: None, wait_s=20, pause_s=0.05)
    with closing(findings):
        assert (findings.differences, findings.unsettled, len(looks)) == (0, 0, 3)


def test_qdrant_may_be_away_for_a_moment_in_a_long_comparison(
    db: Connection, worker: Worker, index: IndexReader, servers: Servers
) -> None:
    ready(db, worker, 2)
    with Proxy.before(servers.qdrant_url) as proxy:
        through = QdrantIndex(proxy.instead(servers.qdrant_url), api_key=None, grpc_port=None)
        proxy.mode = Mode.REFUSE
        back = threading.Timer(0.5, lambda: setattr(proxy, "mode", Mode.PASS))
        back.start()
        with closing(reconcile.compare(replace(sides(db, worker), index=through), lambda *_: None, wait_s=0)) as found:
            assert (found.rows, found.points, found.differences) == (2, 2, 0)
        back.join()


def test_many_orphans_are_not_repaired_unless_their_number_is_allowed(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    ready(db, worker, 1)
    collection = sides(db, worker).collection
    strays = [Point(str(uuid.uuid4()), 0, vector_of("x"), {}, "print", Span(0, 1)) for _ in range(101)]
    worker.index.upsert(collection, strays, 7, 5)
    index.client.delete("context_items", models.FilterSelector(filter=models.Filter(must_not=[
        models.FieldCondition(key="_reindexer.fingerprint", match=models.MatchValue(value="print"))])), wait=True)  # fmt: skip
    with pytest.raises(TooManyDeletions, match=r"101 of 101 points .* more than 100"):
        repair(db, worker)
    assert not db.execute("SELECT FROM reindexer.due").fetchall()
    with pytest.raises(TooManyDeletions, match="more than 50"):
        repair(db, worker, max_deletions=50)
    assert repair(db, worker, max_deletions=101) == 102
    assert_index_equals_table(db, index)


def test_a_repair_leaves_what_a_claim_holds_and_finds_it_the_next_time(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """That claim may end with "unchanged": doubt that were laid upon it would be settled with it."""
    (item_id,) = ready(db, worker, 1)
    index.client.delete("context_items", [point_id("context_items", item_id, 0)], wait=True)
    with compared(db, worker) as findings:
        db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', %s)", [item_id])
        drain(db)
        assert claim_batch(db, Lane.LIVE, 10, 60) is not None
        assert reconcile.repair(sides(db, worker), findings, who="test", max_deletions=None) == 0
        assert findings.unsettled == 1
    assert db.execute("SELECT doubtful FROM reindexer.due").fetchall() == [(False,)]


@pytest.mark.long
def test_memory_does_not_grow_with_the_table(db: Connection, worker: Worker, index: IndexReader) -> None:
    def peak(rows: int) -> int:
        db.execute(
            "INSERT INTO context_items (content) SELECT repeat('text ', 2000) FROM generate_series(1, %s)", [rows]
        )
        db.execute("DELETE FROM reindexer.outbox")
        tracemalloc.start()
        try:
            with compared(db, worker) as findings:
                assert findings.missing == findings.rows >= rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(300)
    assert peak(1_200) < few + 2_000_000, "of 12 megabytes more"


def test_the_command_never_compares_by_another_embedder_than_the_workers(
    db: Connection, env: Mapping[str, str], worker: Worker, index: IndexReader, here: Callable[..., Done]
) -> None:
    """By another one it would take every point for stale, and have all embedded anew."""
    ready(db, worker, 1)
    other = {**env, "REINDEXER_EMBEDDER": "hashing"}
    assert here("reconcile", "context_items", "--repair", env=other).returncode == 0
    db.execute("UPDATE reindexer.generation SET embedder = NULL")  # as after an upgrade
    refused = here("reconcile", "context_items", "--repair", env=other)
    assert refused.returncode == 2
    assert "are made by openai:text-embedding-3-small:32, this process makes hashing-1:32" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not db.execute("SELECT FROM reindexer.due").fetchall()


@pytest.mark.long
def test_the_command_tells_what_differs_and_its_exit_code_says_whether_it_stays_so(
    db: Connection, env: Mapping[str, str], worker: Worker, index: IndexReader, here: Callable[..., Done]
) -> None:
    (item_id,) = ready(db, worker, 1)
    equal = here("reconcile", "context_items", "--json", env=env)
    assert (equal.returncode, json.loads(equal.stdout)["equal"]) == (0, True)
    insert(db, "waits for the listener")
    in_flight = here("reconcile", "context_items", "--wait", "0", "--json", env=env)
    assert (in_flight.returncode, json.loads(in_flight.stdout)["equal"]) == (0, False)
    assert "1 item is being worked on: compare again when it is through" in in_flight.stderr
    finish_work(db, worker)
    index.client.delete("context_items", [point_id("context_items", item_id, 0)], wait=True)
    dry = here("reconcile", "context_items", env=env)
    assert dry.returncode == 1
    assert "reindexer reconcile context_items --repair" in dry.stderr
    assert dry.stderr.count("\n") == 1
    assert not db.execute("SELECT FROM reindexer.due").fetchall()
    mended = here("reconcile", "context_items", "--repair", "--json", env=env)
    facts = json.loads(mended.stdout)
    assert (mended.returncode, facts["missing"], facts["queued"], facts["examples"]) == (
        0,
        1,
        1,
        {"missing": [item_id]},
    )
    finish_work(db, worker)
    assert_index_equals_table(db, index)
