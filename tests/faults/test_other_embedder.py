"""A process whose settings name another model than the one on record works by the record: nothing is mixed, ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count

import httpx
import numpy as np
import pytest

from reindexer.backfills.pager import walk_page
from reindexer.client import Client
from reindexer.core.errors import OtherEmbedder, SourceError
from reindexer.core.items import point_id
from reindexer.core.lanes import Lane
from reindexer.core.owner import Owner
from reindexer.core.search_terms import SearchTerms
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.index.search import collection_of, search
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue.drain import drain
from reindexer.queue.lease import Deadline
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.embedder_record import record
from reindexer.sources.store import find_source
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from reindexer.worker.batch import Batch
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.reconciling import assert_index_equals_table, finish_work, ready
from tests.support.restoring import points

OTHER = {"REINDEXER_EMBEDDER": "hashing"}
"""With as many dimensions: Qdrant itself would take its vectors."""
WITHOUT = {**OTHER, "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
"""This process can't even make the embedder on record."""
RECORD = "openai:text-embedding-3-small:32"
TOLD = f"source 'context_items': generation 1 is made by {RECORD}, and OPENAI_API_KEY is not set here"
IGNORED = "embedder_settings_ignored"


@pytest.fixture
def other(settings: Settings, index: IndexReader) -> Iterator[Worker]:
    """A worker with another model in its environment."""
    built = make_worker(settings.model_copy(update={"embedder": "hashing"}), None)
    yield built
    built.close()


@pytest.fixture
def unable(settings: Settings, index: IndexReader) -> Iterator[Worker]:
    """A worker that can't make the embedder on record."""
    left_out = {"embedder": "hashing", "openai_api_key": None, "openai_base_url": None}
    built = make_worker(settings.model_copy(update=left_out), None)
    yield built
    built.close()


def problem(db: Connection) -> str | None:
    return status(db).sources["context_items"].problem


def test_a_worker_of_another_model_works_by_the_record(
    db: Connection, worker: Worker, other: Worker, index: IndexReader
) -> None:
    ready(db, worker, 2)
    insert(db, "new")
    db.execute("UPDATE context_items SET content = 'edited' WHERE content = 'text 0'")
    db.execute("DELETE FROM context_items WHERE content = 'text 1'")
    work(db, other)
    assert_index_equals_table(db, index)
    assert problem(db) is None


def test_a_worker_that_can_not_make_the_recorded_model_writes_nothing_and_the_next_does_its_items(
    db: Connection, worker: Worker, unable: Worker, index: IndexReader
) -> None:
    ready(db, worker, 2)
    before = points(index)
    insert(db, "new")
    db.execute("UPDATE context_items SET content = 'edited' WHERE content = 'text 0'")
    db.execute("DELETE FROM context_items WHERE content = 'text 1'")
    work(db, unable)
    assert points(index) == before
    assert TOLD in (problem(db) or "")
    assert db.execute("SELECT count(*), max(attempts) FROM reindexer.due").fetchone() == (3, 0)
    work(db, unable)
    work(db, worker)  # at once: a process with wrong settings holds nobody up
    assert_index_equals_table(db, index)
    assert problem(db) is None


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        ("hashing-2:32", "it makes hashing-1:32"),
        ("brainwave:large:32", "there is no embedder 'brainwave'"),
    ],
)
def test_a_record_that_no_embedder_here_makes_is_told_with_the_generation_and_nothing_is_written(
    db: Connection, worker: Worker, index: IndexReader, recorded: str, why: str
) -> None:
    ready(db, worker, 1)
    before = points(index)
    db.execute("UPDATE reindexer.generation SET embedder = %s", [recorded])
    insert(db, "new")
    work(db, worker)
    told = problem(db) or ""
    assert f"generation 1 of 'context_items' is made by {recorded}, and this process can't make that: {why}" in told
    assert "`reindexer rebuild context_items`" in told
    assert points(index) == before


def test_beside_a_worker_process_of_another_model_every_vector_is_the_recorded_ones_and_it_tells_that_once(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    processes.listener()
    right = processes.worker(pool="solo", concurrency=1)
    insert(db, "the first")
    eventually(lambda: index.count() == 1)
    wrong = processes.worker(pool="solo", concurrency=1, **OTHER)
    texts = (f"text {number}" for number in count())

    def has_worked_twice() -> bool:
        insert(db, next(texts))
        return log_of(wrong).count(" settled ") > 1

    eventually(has_worked_twice, every=0.05, what="the other worker takes messages, too")
    db.execute("UPDATE context_items SET content = content || ' edited'")
    eventually(lambda: status(db).outbox + status(db).pending + status(db).processing == 0)
    assert_index_equals_table(db, index)
    assert log_of(wrong).count(IGNORED) == 1
    assert f"recorded={RECORD} settings=hashing-1:32" in log_of(wrong)
    assert IGNORED not in log_of(right)


def test_a_lost_collection_is_made_again_by_the_recorded_embedder_whoever_comes_first(
    db: Connection, worker: Worker, other: Worker, unable: Worker, index: IndexReader
) -> None:
    ready(db, worker, 2)
    index.client.delete_collection("context_items__g1")
    insert(db, "new")
    work(db, unable)
    assert TOLD in (problem(db) or "")
    assert not index.client.collection_exists("context_items__g1")
    finish(db, other)
    assert_index_equals_table(db, index)


def test_a_claim_made_before_another_model_was_recorded_writes_nothing(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """The source was attached again meanwhile, say, and its first worker was another."""
    ready(db, worker, 1)
    before = points(index)
    insert(db, "new")
    drain(db)
    claim = worker.claim(Lane.LIVE)
    assert claim is not None
    batch = Batch(worker, replace(claim, embedder="another:32"), Deadline.after(5))
    batch.work()
    assert batch.leaves_source
    assert points(index) == before


def test_where_nothing_is_recorded_yet_what_is_noted_beside_the_collection_counts(
    db: Connection, worker: Worker, other: Worker, index: IndexReader
) -> None:
    """As after an upgrade from a version without the record."""
    ready(db, worker, 1)
    db.execute("UPDATE reindexer.generation SET embedder = NULL")
    before = points(index)
    insert(db, "new")
    work(db, other)
    assert f"are made by {RECORD}, this process makes hashing-1:32" in (problem(db) or "")
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
    assert f"made by {RECORD}, this process makes hashing-1:64" in (problem(db) or "")


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


def test_a_search_by_another_model_in_the_environment_asks_by_the_record(
    db: Connection, env: Mapping[str, str], worker: Worker, index: IndexReader, processes: Processes,
    here: Callable[..., Done],
) -> None:  # fmt: skip
    ready(db, worker, 3)
    for command in ({}, OTHER):
        found = here("search", "context_items", "text 0", env={**env, **command})
        assert (found.returncode, found.stdout[:5]) == (0, "1.000")
    api, url = processes.api(**OTHER)
    for _ in range(2):
        asked = httpx.post(f"{url}/search", json={"query": "text 0"}, headers={"X-API-Key": "test-admin-key"})
        assert asked.json()["hits"][0]["score"] == pytest.approx(1)
    assert log_of(api).count(IGNORED) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_a_search_that_can_not_ask_by_the_record_is_an_error_and_never_wrong_hits(
    db: Connection, env: Mapping[str, str], worker: Worker, other: Worker, index: IndexReader, processes: Processes,
    here: Callable[..., Done], recorded: bool,
) -> None:  # fmt: skip
    ready(db, worker, 3)
    if not recorded:
        db.execute("UPDATE reindexer.generation SET embedder = NULL")
    told = TOLD if recorded else f"the points of 'context_items' are made by {RECORD}, this process makes hashing-1:32"
    collection = collection_of(db, CONTEXT_ITEMS)
    assert (
        len(search(worker.embedder_of(CONTEXT_ITEMS), worker.index, collection, "text 0", SearchTerms(5), timeout_s=5))
        == 3
    )
    with pytest.raises(OtherEmbedder):  # of one that was resolved before the record
        search(other.embedder_of(CONTEXT_ITEMS), other.index, collection, "text 0", SearchTerms(5), timeout_s=5)
    command = here("search", "context_items", "text 0", env={**env, **WITHOUT})
    assert (command.returncode, command.stdout, command.stderr.count("\n")) == (2 - recorded, "", 1)
    assert told in command.stderr
    _, url = processes.api(**WITHOUT)
    asked = httpx.post(f"{url}/search", json={"query": "text 0"}, headers={"X-API-Key": "test-admin-key"})
    assert asked.status_code == 503
    assert told in asked.json()["detail"]


def test_more_like_an_item_is_found_where_the_model_on_record_can_not_be_made(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    ready(db, worker, 3)
    item_id, text = db.execute("SELECT id::text, content FROM context_items ORDER BY id").fetchone() or ("", "")
    left_out = {"embedder": "hashing", "openai_api_key": None, "openai_base_url": None}
    with Client(settings.model_copy(update=left_out)) as client:
        hits = client.similar("context_items", item_id, text=True).hits
        assert {hit.text for hit in hits} == {"text 0", "text 1", "text 2"} - {text}
        with pytest.raises(SourceError, match="OPENAI_API_KEY is not set here"):
            client.search("context_items", "text 0")


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.first(1)
def test_readyz_of_an_api_of_another_model_tells_what_it_can_not_search(
    db: Connection, worker: Worker, index: IndexReader, processes: Processes, others: bool
) -> None:
    """It is ready as long as there is a source that it can search."""
    ready(db, worker, 1)
    if others:
        db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        with changing_triggers(db):
            attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    _, url = processes.api(**WITHOUT)
    told = httpx.get(f"{url}/readyz").json()["checks"]["sources"]
    words = "context_items: can't be searched here: its points are made by another embedder"
    assert told == (f"ok, but {words}" if others else words)
    _, url = processes.api(**OTHER)
    assert httpx.get(f"{url}/readyz").json()["checks"]["sources"] == "ok"


@pytest.mark.long
def test_commands_and_routes_that_compare_go_by_the_record(
    db: Connection, env: Mapping[str, str], worker: Worker, index: IndexReader, processes: Processes,
    here: Callable[..., Done],
) -> None:  # fmt: skip
    (item_id,) = ready(db, worker, 1)
    for command in (["why", "context_items", item_id], ["reconcile", "context_items"]):
        assert here(*command, env={**env, **OTHER}).returncode == 0
        refused = here(*command, env={**env, **WITHOUT})
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert TOLD in refused.stderr
    _, url = processes.api(**OTHER)
    asked = httpx.get(f"{url}/admin/items/context_items/{item_id}", headers={"X-API-Key": "test-admin-key"})
    assert asked.json()["wanted"] == asked.json()["indexed"]
    _, url = processes.api(**WITHOUT)
    asked = httpx.get(f"{url}/admin/items/context_items/{item_id}", headers={"X-API-Key": "test-admin-key"})
    assert (asked.status_code, TOLD in asked.json()["detail"]) == (503, True)


def test_an_estimate_is_by_the_settings_and_tells_whose_points_there_are(
    db: Connection, env: Mapping[str, str], worker: Worker, here: Callable[..., Done]
) -> None:
    """What a rebuild would take is asked before it."""
    ready(db, worker, 1)
    priced = here("estimate", "context_items", env={**env, **OTHER})
    assert (priced.returncode, priced.stderr.count("\n")) == (0, 1)
    assert "hashing-1:32" in priced.stdout
    assert f"are made by {RECORD}" in priced.stderr
    assert "`reindexer rebuild context_items`" in priced.stderr


def test_the_synchronous_call_of_another_model_embeds_by_the_record(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    (item_id,) = ready(db, worker, 1)
    with Client(settings.model_copy(update={"embedder": "hashing"})) as client:
        client.regenerate_now("context_items", item_id, timeout_s=10)
        assert client.search("context_items", "text 0").hits[0].score == pytest.approx(1)
    assert_index_equals_table(db, index)
    without = {"embedder": "hashing", "openai_api_key": None, "openai_base_url": None}
    with Client(settings.model_copy(update=without)) as client, pytest.raises(SourceError, match=TOLD):
        client.regenerate_now("context_items", item_id, timeout_s=10)


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


def test_another_model_is_chosen_by_a_rebuild_and_every_worker_follows(
    db: Connection, env: Mapping[str, str], worker: Worker, other: Worker, index: IndexReader,
    here: Callable[..., Done],
) -> None:  # fmt: skip
    db.execute("CREATE TABLE notes AS SELECT n AS id, 'text ' || n AS body FROM generate_series(1, 3) AS n")
    db.execute("ALTER TABLE notes ADD PRIMARY KEY (id)")
    assert here("attach", "notes", "--table", "notes", "--text", "body", env=env).returncode == 0
    finish(db, worker)
    assert here("rebuild", "notes", "--detach", env={**env, **OTHER}).returncode == 0
    finish(db, worker)  # whose settings still say the former model
    assert here("promote", "notes", env=env).returncode == 0
    finish(db, worker)
    assert status(db).sources["notes"].problem is None
    db.execute("INSERT INTO notes VALUES (4, 'text 4')")
    finish(db, worker)
    notes = IndexReader(index.client, "notes")
    hashing = other.embedder_of(Source("notes", "public", "notes", ("id",), ("body",)))
    for item in range(1, 5):
        assert notes.holds(str(item), hashing.embed([f"text {item}"], timeout_s=5).vectors[0])
        (former,) = index.client.retrieve("notes__g1", [point_id("notes", str(item), 0)], with_vectors=True)
        assert np.allclose(np.asarray(former.vector), vector_of(f"text {item}"), atol=1e-4)


def finish(db: Connection, worker: Worker) -> None:
    for _ in range(2):  # a run ends after its items
        while walk_page(db, lambda name, number: find_source(db, name, number)):
            pass
        finish_work(db, worker)


def test_of_two_that_record_themselves_the_first_stays(db: Connection) -> None:
    """Where nothing is noted beside a collection that was made by somebody else."""
    record(db, "context_items", 1, "one:32")
    record(db, "context_items", 1, "one:32")
    with pytest.raises(OtherEmbedder):
        record(db, "context_items", 1, "another:32")
    record(db, "context_items", 1, "one:32")
