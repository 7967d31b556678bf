"""A process whose settings name another model than the one that made a source's vectors: nothing is mixed, ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count

import httpx
import pytest

from reindexer.backfills.pager import walk_page
from reindexer.core.errors import OtherEmbedder
from reindexer.core.lanes import Lane
from reindexer.core.owner import Owner
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.index.search import collection_of, search
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.embedder_record import record
from reindexer.sources.store import find_source
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.reconciling import assert_index_equals_table, finish_work, ready
from tests.support.restoring import points

OTHER = {"REINDEXER_EMBEDDER": "hashing"}
"""With as many dimensions: Qdrant itself would take its vectors."""
TOLD = "the points of 'context_items' are made by openai:text-embedding-3-small:32, the settings here say hashing-1:32"


@pytest.fixture
def other(settings: Settings, index: IndexReader) -> Iterator[Worker]:
    """A worker with another model in its environment."""
    built = make_worker(settings.model_copy(update={"embedder": "hashing"}), None)
    yield built
    built.close()


def problem(db: Connection) -> str | None:
    return status(db).sources["context_items"].problem


def test_a_worker_of_another_model_writes_nothing_and_its_items_are_done_by_the_next_of_the_right_one(
    db: Connection, worker: Worker, other: Worker, index: IndexReader
) -> None:
    ready(db, worker, 2)
    before = points(index)
    insert(db, "new")
    db.execute("UPDATE context_items SET content = 'edited' WHERE content = 'text 0'")
    db.execute("DELETE FROM context_items WHERE content = 'text 1'")
    work(db, other)
    assert points(index) == before
    assert TOLD in (problem(db) or "")
    assert db.execute("SELECT count(*), max(attempts) FROM reindexer.due").fetchone() == (3, 0)
    work(db, other)
    work(db, worker)  # at once: a process with wrong settings holds nobody up
    assert_index_equals_table(db, index)
    assert problem(db) is None


def test_beside_a_worker_process_of_another_model_every_vector_is_the_right_ones(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    processes.listener()
    processes.worker(pool="solo", concurrency=1)
    insert(db, "the first")
    eventually(lambda: index.count() == 1)
    wrong = processes.worker(pool="solo", concurrency=1, **OTHER)
    texts = (f"text {number}" for number in count())

    def has_claimed() -> bool:
        insert(db, next(texts))
        return "source_failed" in log_of(wrong)

    eventually(has_claimed, every=0.05, what="the other worker takes a message, too")
    db.execute("UPDATE context_items SET content = content || ' edited'")
    eventually(lambda: status(db).outbox + status(db).pending + status(db).processing == 0)
    assert_index_equals_table(db, index)


def test_a_lost_collection_is_made_again_by_the_recorded_embedder_alone(
    db: Connection, worker: Worker, other: Worker, index: IndexReader
) -> None:
    ready(db, worker, 2)
    index.client.delete_collection("context_items__g1")
    insert(db, "new")
    work(db, other)
    assert TOLD in (problem(db) or "")
    assert not index.client.collection_exists("context_items__g1")


def test_where_nothing_is_recorded_yet_what_is_noted_beside_the_collection_counts(
    db: Connection, worker: Worker, other: Worker, index: IndexReader
) -> None:
    """As after an upgrade from a version without the record."""
    ready(db, worker, 1)
    db.execute("UPDATE reindexer.generation SET embedder = NULL")
    before = points(index)
    insert(db, "new")
    work(db, other)
    assert TOLD in (problem(db) or "")
    assert points(index) == before
    assert db.execute("SELECT embedder FROM reindexer.source").fetchone() == (None,)
    work(db, worker)
    assert db.execute("SELECT embedder FROM reindexer.source").fetchone() == ("openai:text-embedding-3-small:32",)


def test_of_a_collection_that_another_model_of_other_dimensions_made_the_model_is_told_first(
    db: Connection, worker: Worker, settings: Settings, index: IndexReader
) -> None:
    """It was left behind by a detach: the dimensions alone could be set right, and the vectors would be mixed."""
    ready(db, worker, 1)
    db.execute("UPDATE reindexer.generation SET embedder = NULL")
    insert(db, "new")
    built = make_worker(settings.model_copy(update={"embedder": "hashing", "embedding_dimensions": 64}), None)
    work(db, built)
    built.close()
    assert "made by openai:text-embedding-3-small:32, the settings here say hashing-1:64" in (problem(db) or "")


def test_a_worker_that_had_prepared_the_collection_looks_again_when_the_record_is_gone(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    """The source was detached and attached again, and another model was the first to make its collection anew."""
    ready(db, worker, 1)
    db.execute("UPDATE reindexer.generation SET embedder = NULL")
    worker.index.adopt(collection_of(db, CONTEXT_ITEMS), Owner(None, "another:32"))
    calls = len(provider.calls)
    insert(db, "new")
    work(db, worker)
    assert "are made by another:32" in (problem(db) or "")
    assert len(provider.calls) == calls


def test_of_two_models_that_begin_together_one_makes_all_vectors(
    db: Connection, worker: Worker, other: Worker, index: IndexReader
) -> None:
    ids = {insert(db, f"text {number}"): f"text {number}" for number in range(8)}
    drain(db)
    start = threading.Barrier(2)

    def begin(one: Worker) -> None:
        one.limits = replace(one.limits, batch_size=1)
        start.wait()
        one.run_lane(Lane.LIVE, budget_s=1)

    threads = [threading.Thread(target=begin, args=[each]) for each in (worker, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: [each.run_lane(Lane.LIVE, budget_s=1) for each in (worker, other)] and index.count() == 8)
    (made_by,) = db.execute("SELECT embedder FROM reindexer.source").fetchone() or (None,)
    embedders = [each.embedder_of(CONTEXT_ITEMS) for each in (worker, other)]
    (right,) = [each for each in embedders if each.fingerprint == made_by]
    for item_id, text in ids.items():
        assert index.holds(item_id, right.embed([text], timeout_s=5).vectors[0]), text


@pytest.mark.parametrize("recorded", [True, False])
def test_a_search_by_another_model_is_an_error_and_never_wrong_hits(
    db: Connection, env: Mapping[str, str], worker: Worker, other: Worker, index: IndexReader, processes: Processes,
    here: Callable[..., Done], recorded: bool,
) -> None:  # fmt: skip
    ready(db, worker, 3)
    if not recorded:
        db.execute("UPDATE reindexer.generation SET embedder = NULL")
    collection = collection_of(db, CONTEXT_ITEMS)
    assert len(search(worker.embedder_of(CONTEXT_ITEMS), worker.index, collection, "text 0", 5, timeout_s=5)) == 3
    with pytest.raises(OtherEmbedder):
        search(other.embedder_of(CONTEXT_ITEMS), other.index, collection, "text 0", 5, timeout_s=5)
    command = here("search", "context_items", "text 0", env={**env, **OTHER})
    assert (command.returncode, command.stdout, command.stderr.count("\n")) == (2, "", 1)
    assert TOLD in command.stderr
    _, url = processes.api(**OTHER)
    asked = httpx.post(f"{url}/search", json={"query": "text 0"}, headers={"X-API-Key": "test-admin-key"})
    assert asked.status_code == 503
    assert TOLD in asked.json()["detail"]


@pytest.mark.parametrize("others", [True, False])
def test_readyz_of_an_api_of_another_model_tells_what_it_can_not_search(
    db: Connection, worker: Worker, index: IndexReader, processes: Processes, others: bool
) -> None:
    """It is ready as long as there is a source that it can search."""
    ready(db, worker, 1)
    if others:
        db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        with changing_triggers(db):
            attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    _, url = processes.api(**OTHER)
    told = httpx.get(f"{url}/readyz").json()["checks"]["sources"]
    words = "context_items: can't be searched here: its points are made by another embedder"
    assert told == (f"ok, but {words}" if others else words)
    _, url = processes.api()
    assert httpx.get(f"{url}/readyz").json()["checks"]["sources"] == "ok"


def test_commands_and_routes_that_compare_by_the_embedder_refuse_as_well(
    db: Connection, env: Mapping[str, str], worker: Worker, index: IndexReader, processes: Processes,
    here: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, embed_here: Callable[..., None],
) -> None:  # fmt: skip
    (item_id,) = ready(db, worker, 1)
    for command in (["why", "context_items", item_id], ["reconcile", "context_items"]):
        refused = here(*command, env={**env, **OTHER})
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert TOLD in refused.stderr
    priced = here("estimate", "context_items", env={**env, **OTHER})
    assert (priced.returncode, priced.stderr.count("\n")) == (0, 1)
    assert "are made by openai:text-embedding-3-small:32" in priced.stderr
    _, url = processes.api(**OTHER)
    asked = httpx.get(f"{url}/admin/items/context_items/{item_id}", headers={"X-API-Key": "test-admin-key"})
    assert (asked.status_code, TOLD in asked.json()["detail"]) == (503, True)
    with pytest.raises(OtherEmbedder):
        embed_here(item_id)


def test_without_an_embedder_whoever_needs_one_ends_with_one_line_and_the_others_work(
    db: Connection, env: Mapping[str, str], index: IndexReader, here: Callable[..., Done]
) -> None:
    unset = {**env, "OPENAI_API_KEY": ""}
    for command in (["search", "s", "x"], ["why", "s", "1"], ["reconcile", "s"], ["estimate", "s"]):
        asked = [CONTEXT_ITEMS.name if word == "s" else word for word in command]
        refused = here(*asked, env=unset)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "no embedder is set: give this process what the workers have, OPENAI_API_KEY" in refused.stderr
    for command in (["status"], ["status", "--json"], ["migrate"], ["sources"], ["dead-letters"], ["pause"]):
        assert here(*command, env=unset).returncode == 0, command


def test_another_model_is_chosen_by_detaching_the_source_and_attaching_it_anew(
    db: Connection, env: Mapping[str, str], worker: Worker, other: Worker, index: IndexReader,
    here: Callable[..., Done],
) -> None:  # fmt: skip
    db.execute("CREATE TABLE notes AS SELECT n AS id, 'text ' || n AS body FROM generate_series(1, 3) AS n")
    db.execute("ALTER TABLE notes ADD PRIMARY KEY (id)")
    attach_notes = ["attach", "notes", "--table", "notes", "--text", "body"]
    assert here(*attach_notes, env=env).returncode == 0
    finish(db, worker)
    notes = IndexReader(index.client, "notes")
    assert notes.count() == 3
    assert here("detach", "notes", "--drop-collection", env=env).returncode == 0
    assert here(*attach_notes, env=env).returncode == 0
    finish(db, other)
    assert status(db).sources["notes"].problem is None
    vector = other.embedder_of(find_source(db, "notes")).embed(["text 2"], timeout_s=5).vectors[0]
    assert (notes.count(), notes.holds("2", vector)) == (3, True)
    db.execute("INSERT INTO notes VALUES (4, 'text 4')")
    work(db, worker)
    assert "are made by hashing-1:32" in (status(db).sources["notes"].problem or "")


def finish(db: Connection, worker: Worker) -> None:
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    finish_work(db, worker)


def test_of_two_that_record_themselves_the_first_stays(db: Connection) -> None:
    """Where nothing is noted beside a collection that was made by somebody else."""
    record(db, "context_items", 1, "one:32")
    record(db, "context_items", 1, "one:32")
    with pytest.raises(OtherEmbedder):
        record(db, "context_items", 1, "another:32")
    record(db, "context_items", 1, "one:32")
