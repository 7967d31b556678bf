"""A generation takes the vectors that another one has: no provider is asked for what was paid for already."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import models

from reindexer import rebuilding
from reindexer.core.fingerprint import text_fingerprint
from reindexer.core.items import point_id
from reindexer.core.lanes import Lane
from reindexer.core.profile import Profile
from reindexer.generations import lifecycle, promotion
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.queue.requests import ReindexRequest, record
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, error, vector_of
from reindexer.worker.worker import Worker
from tests.integration.generations.settling import NAME, SOON, points, rebuilt, settle, started, walk
from tests.support.flow import fill, insert
from tests.support.index_reader import IndexReader
from tests.support.long_texts import document

SMALL_GRAPH = Profile(collection={"hnsw_config": {"m": 8}})
HALVES = Profile(collection={"datatype": "float16"})
QUANTIZED = Profile(collection={"quantization_config": {"scalar": {"type": "int8", "always_ram": True}}})


@pytest.fixture
def filled(db: Connection, worker: Worker, provider: FakeProvider) -> Connection:
    """Four rows, indexed in generation 1."""
    fill(db)
    settle(db, worker)
    provider.calls.clear()
    return db


def long_text(paragraphs: int) -> str:
    return "\n\n".join(document(random.Random(7), paragraphs))


def away(provider: FakeProvider) -> None:
    provider.behave = lambda _: error(500)


def require_alike(index: IndexReader, one: int, other: int) -> None:
    first, second = points(index, one), points(index, other)
    assert {each: fingerprint for each, (fingerprint, _) in first.items()} == {
        each: fingerprint for each, (fingerprint, _) in second.items()
    }
    for each, (_, vector) in first.items():
        assert np.allclose(vector, second[each][1], atol=1e-3)


@pytest.mark.parametrize("profile", [SMALL_GRAPH, QUANTIZED, HALVES], ids=["graph", "quantization", "halves"])
def test_a_rebuild_that_changes_how_points_are_stored_asks_no_provider(
    filled: Connection, settings: Settings, worker: Worker, provider: FakeProvider, index: IndexReader, profile: Profile
) -> None:
    away(provider)
    rebuilding.rebuild(settings, filled, worker.index, NAME, who="test")  # nothing is asked at its start, either
    lifecycle.cancel(filled, NAME, who="test")
    source = rebuilt(filled, worker, profile=profile)
    assert provider.calls == []
    require_alike(index, 1, source.generation)
    promotion.promote(filled, NAME, who="test", terms=SOON)


def test_a_collection_of_half_precision_feeds_none_that_keeps_more(
    filled: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    rebuilt(filled, worker, profile=HALVES)
    promotion.promote(filled, NAME, who="test", terms=SOON)
    lifecycle.prune(filled, NAME, who="test")
    settle(filled, worker)
    rebuilt(filled, worker, profile=HALVES)  # as a chunk that moves within the collection
    assert provider.calls == []
    lifecycle.prune(filled, NAME, who="test", number=3)
    rebuilt(filled, worker, profile=Profile())
    assert len(provider.inputs) == 4


def test_vectors_that_a_distance_changed_feed_none_of_another_distance(
    filled: Connection, worker: Worker, provider: FakeProvider
) -> None:
    rebuilt(filled, worker, profile=Profile(distance="dot"))
    assert len(provider.inputs) == 4
    promotion.promote(filled, NAME, who="test", terms=SOON)
    lifecycle.prune(filled, NAME, who="test")
    settle(filled, worker)
    rebuilt(filled, worker, profile=Profile(distance="euclid"))
    assert len(provider.inputs) == 4


def test_a_rebuild_that_cuts_otherwise_embeds_only_the_chunks_that_are_new(
    db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    short = insert(db, "a short one")
    insert(db, long_text(30))
    settle(db, worker)
    rebuilt(db, worker, chunk_tokens=200)
    promotion.promote(db, NAME, who="test", terms=SOON)
    lifecycle.prune(db, NAME, who="test")
    settle(db, worker)
    before = {fingerprint for fingerprint, _ in points(index, 2).values()}
    provider.calls.clear()
    rebuilt(db, worker, chunk_tokens=120)
    after = points(index, 3)
    assert point_id(NAME, short, 0) in after
    shared = [fingerprint for fingerprint, _ in after.values() if fingerprint in before]
    assert 1 < len(shared) < len(after)
    assert len(provider.inputs) == len(after) - len(shared)
    made_by = str(find_source(db, NAME, 3).made_by)
    prints = {text_fingerprint(text, made_by): text for text in provider.inputs}
    for fingerprint, vector in after.values():
        if fingerprint in prints:
            assert np.allclose(vector, vector_of(prints[fingerprint]), atol=1e-3)


def test_an_edit_after_a_promotion_is_embedded_once(
    filled: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    rebuilt(filled, worker, profile=SMALL_GRAPH)
    promotion.promote(filled, NAME, who="test", terms=SOON)
    filled.execute("UPDATE context_items SET content = 'edited' WHERE title = 'first'")
    insert(filled, "newer")
    settle(filled, worker)
    assert sorted(provider.inputs) == ["first\nedited", "newer"]
    require_alike(index, 1, 2)


def test_what_another_generation_has_does_not_wait_for_a_provider_that_is_left_alone(
    filled: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    provider.behave = lambda _: error(503)
    filled.execute(
        "INSERT INTO reindexer.breaker (dependency, account, reason, failures, opened_at, probe_at)"
        " SELECT 'provider', '', 'away', 3, now(), now() + interval '1 hour'"
    )
    insert(filled, "nobody has it")
    started(filled, profile=SMALL_GRAPH)
    for _ in range(3):
        drain(filled)
        walk(filled)
        for lane in Lane:
            worker.run_lane(lane, budget_s=5)
    assert provider.calls == []
    assert len(points(index, 2)) == 4
    assert filled.execute("SELECT count(*) FROM reindexer.due WHERE generation = 2 AND marked").fetchone() == (1,)


def test_a_reindex_request_is_embedded_anew(filled: Connection, worker: Worker, provider: FakeProvider) -> None:
    rebuilt(filled, worker, profile=SMALL_GRAPH)
    (item,) = filled.execute("SELECT min(id::text) FROM context_items").fetchone() or ("",)
    record(filled, NAME, [ReindexRequest("task", item)], lane=Lane.BULK, sent=True)
    settle(filled, worker)
    assert len(provider.inputs) == 1


def test_a_collection_that_is_gone_is_no_error_of_the_generation_that_would_take_from_it(
    filled: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    started(filled, profile=SMALL_GRAPH)
    drain(filled)
    walk(filled)
    index.client.delete_collection(f"{NAME}__g1")
    worker.run_lane(Lane.BULK, budget_s=5)
    assert len(provider.inputs) == 4
    assert len(points(index, 2)) == 4
    assert filled.execute("SELECT max(attempts) FROM reindexer.ledger WHERE generation = 2").fetchone() == (1,)


def test_a_vector_is_taken_only_with_the_fingerprint_that_was_written_with_it(
    filled: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    """The ledger may say of a point what was true a moment ago: another claim may have written it since."""
    (item,) = filled.execute("SELECT id::text FROM context_items WHERE title = 'first'").fetchone() or ("",)
    index.client.update_vectors(
        f"{NAME}__g1",
        [models.PointVectors(id=point_id(NAME, item, 0), vector=vector_of("another").tolist())],
        wait=True,
    )
    index.client.set_payload(
        f"{NAME}__g1", {"fingerprint": "of another text"}, points=[point_id(NAME, item, 0)], key="_reindexer", wait=True
    )
    rebuilt(filled, worker, profile=SMALL_GRAPH)
    assert provider.inputs == ["first\ntext of first"]
    _, vector = points(index, 2)[point_id(NAME, item, 0)]
    assert np.allclose(vector, vector_of("first\ntext of first"), atol=1e-3)


def test_another_models_vectors_are_not_taken(filled: Connection, worker: Worker, provider: FakeProvider) -> None:
    source = find_source(filled, NAME)
    made_by = str(source.made_by).rpartition(":")[0]
    lifecycle.rebuild(
        filled, replace(source, profile=Profile(dimensions=16), made_by=None), f"{made_by}:16", who="test"
    )
    settle(filled, worker)
    assert len(provider.inputs) == 4


def test_an_item_larger_than_a_group_is_taken_in_parts(
    db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.worker.apply.GROUP_CHUNKS", 4)
    insert(db, long_text(30))
    settle(db, worker)
    rebuilt(db, worker, chunk_tokens=60)
    assert len(points(index, 2)) > 12
    promotion.promote(db, NAME, who="test", terms=SOON)
    provider.calls.clear()
    rebuilt(db, worker, profile=SMALL_GRAPH)
    assert provider.calls == []
    require_alike(index, 2, 3)


def test_what_another_generation_has_is_written_before_the_provider_is_asked_for_the_rest(
    filled: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    """The provider may be slow, or the claim's time be over by then."""
    started(filled, profile=SMALL_GRAPH)
    insert(filled, "nobody has it")
    drain(filled)
    walk(filled)
    seen = list[int]()

    def behave(call: Call) -> None:
        seen.append(len(points(index, 2)))

    provider.behave = behave
    filled.execute("UPDATE reindexer.due SET lane = 'bulk', not_before = now() - interval '1 s'")
    filled.execute("DELETE FROM reindexer.due WHERE generation = 1")
    worker.run_lane(Lane.BULK, budget_s=5)
    assert seen == [4]
    assert len(points(index, 2)) == 5
