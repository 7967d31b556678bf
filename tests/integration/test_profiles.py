"""Profiles: each source has its own provider, model, dimensions, distance and collection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qdrant_client import models

from reindexer.backfills.pager import walk_page
from reindexer.core.errors import DefinitionError
from reindexer.core.lanes import Lane
from reindexer.core.profile import Profile
from reindexer.core.search_terms import SearchTerms
from reindexer.core.source import Source
from reindexer.index.search import collection_of, search
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.worker.worker import Worker
from tests.support.index_reader import IndexReader

OTHER_KEY = "REINDEXER_TEST_OTHER_KEY"


@pytest.fixture
def other() -> Iterator[FakeProvider]:
    """A second provider."""
    running = FakeProvider()
    yield running
    running.close()


def settle(db: Connection, worker: Worker) -> None:
    while drain(db).changes or walk_page(db, lambda name, _: find_source(db, name)):
        pass
    for lane in Lane:
        worker.run_lane(lane, budget_s=10)


def attached(db: Connection, worker: Worker, profile: Profile, name: str = "notes") -> Source:
    """A table of one row, attached with that profile, and settled."""
    db.execute(f"CREATE TABLE IF NOT EXISTS {name} (id int PRIMARY KEY, body text)".encode())
    db.execute(f"INSERT INTO {name} VALUES (1, 'text') ON CONFLICT DO NOTHING".encode())
    source = Source(name, "public", name, ("id",), ("body",), profile=profile)
    with changing_triggers(db):
        attach(db, source)
    settle(db, worker)
    return find_source(db, name)


def problem(db: Connection, name: str = "notes") -> str | None:
    row = db.execute("SELECT problem FROM reindexer.source WHERE name = %s", [name]).fetchone()
    return row[0] if row else None


def test_a_source_with_its_own_provider_model_and_dimensions_is_embedded_and_searched_by_them(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, other: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(OTHER_KEY, "sk-other")
    profile = Profile(model="another-model", dimensions=16, base_url=other.url, api_key_env=OTHER_KEY)
    source = attached(db, worker, profile)
    assert (other.inputs, provider.inputs) == (["text"], [])
    assert other.calls[0].body["model"] == "another-model"
    assert IndexReader(index.client, "notes").holds("1", vector_of("text", 16))
    hits = search(
        worker.embedder_of(source), worker.index, collection_of(db, source), "text", SearchTerms(5), timeout_s=5
    )
    assert [hit.item_id for hit in hits] == ["1"]
    assert provider.inputs == []


def test_two_sources_of_different_providers_are_worked_on_side_by_side(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, other: FakeProvider
) -> None:
    attached(db, worker, Profile(base_url=other.url, dimensions=16), "notes")
    attached(db, worker, Profile(), "letters")
    assert (other.inputs, provider.inputs) == (["text"], ["text"])


def test_a_provider_that_a_profile_names_never_gets_the_key_of_the_settings(
    db: Connection, worker: Worker, other: FakeProvider
) -> None:
    seen: list[str] = []
    handler = other._server.RequestHandlerClass
    answer = handler.do_POST  # type: ignore[attr-defined]

    def noting(self: object) -> None:
        seen.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        answer(self)

    handler.do_POST = noting  # type: ignore[attr-defined]
    attached(db, worker, Profile(base_url=other.url))
    assert seen == ["Bearer none"]


def test_a_key_that_is_not_set_where_the_worker_runs_is_the_sources_problem(db: Connection, worker: Worker) -> None:
    attached(db, worker, Profile(api_key_env=OTHER_KEY))
    told = f"source 'notes': its profile's api_key_env names {OTHER_KEY}, which is not set here"
    assert (problem(db) or "").endswith(told)
    assert db.execute("SELECT count(*) FROM reindexer.due").fetchone() == (1,)


@pytest.mark.parametrize("distance", ["cosine", "dot", "euclid", "manhattan"])
def test_the_collection_has_the_profiles_distance_and_finds_the_nearest(
    db: Connection, worker: Worker, index: IndexReader, distance: str
) -> None:
    profile = Profile(provider="hashing", dimensions=64, distance=distance)  # type: ignore[arg-type]
    source = attached(db, worker, profile)
    db.execute("INSERT INTO notes VALUES (2, 'green tea with honey'), (3, 'bicycle')")
    settle(db, worker)
    params = index.client.get_collection("notes").config.params.vectors
    assert isinstance(params, models.VectorParams)
    assert (params.distance.value.lower(), params.size) == (distance, 64)
    hits = search(
        worker.embedder_of(source), worker.index, collection_of(db, source), "green tea", SearchTerms(1), timeout_s=5
    )
    assert [hit.item_id for hit in hits] == ["2"]


def test_parameters_of_the_collection_reach_qdrant(db: Connection, worker: Worker, index: IndexReader) -> None:
    parameters = {"on_disk": True, "hnsw_config": {"m": 8}, "quantization_config": {"scalar": {"type": "int8"}}}
    attached(db, worker, Profile(collection=parameters))
    assert problem(db) is None
    assert IndexReader(index.client, "notes").holds("1", vector_of("text"))


def test_parameters_that_qdrant_does_not_know_are_the_sources_problem(db: Connection, worker: Worker) -> None:
    attached(db, worker, Profile(collection={"hnsw_config": {"m": "many"}}))
    assert "its profile's collection.hnsw_config" in (problem(db) or "")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (Profile(), Profile(model="newer"), "the profile says model newer"),
        (Profile(), Profile(dimensions=8), "the profile says dimensions 8"),
        (Profile(), Profile(provider="hashing"), "the profile says provider hashing"),
        (Profile(), Profile(distance="dot"), "compared by cosine; the profile says distance dot"),
        (Profile(dimensions=16), Profile(), "the profile says no dimensions any more"),
    ],
)
@pytest.mark.first(2)
def test_a_profile_of_other_vectors_than_those_that_are_there_is_refused_with_the_steps_to_take(
    db: Connection,
    worker: Worker,
    provider: FakeProvider,
    index: IndexReader,
    before: Profile,
    after: Profile,
    told: str,
) -> None:
    attached(db, worker, before)
    with pytest.raises(DefinitionError) as refused:
        attached(db, worker, after)
    assert "source 'notes': its points are made by openai:text-embedding-3-small:" in str(refused.value)
    assert told in str(refused.value)
    words = ": `reindexer rebuild notes` fills a generation by it, docs/generations.md"
    assert str(refused.value).endswith(words)
    assert (len(provider.calls), find_source(db, "notes").profile) == (1, before)
    steps = find_source(db, "notes")
    detach(db, steps, who="test", lease_s=5)
    worker.index.drop(collection_of(db, steps))
    attached(db, worker, after)
    assert (problem(db), IndexReader(index.client, "notes").count()) == (None, 1)


def test_a_profile_that_says_what_is_so_already_is_taken(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    attached(db, worker, Profile())
    same = Profile(provider="openai", model="text-embedding-3-small", dimensions=32, base_url=provider.url)
    assert attached(db, worker, same).profile == same
    assert (problem(db), len(provider.calls)) == (None, 1)


def test_before_anything_is_embedded_a_profile_may_say_what_it_likes(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    for each in (Profile(), Profile(dimensions=8)):
        with changing_triggers(db):
            attach(db, Source("notes", "public", "notes", ("id",), ("body",), profile=each))
    db.execute("INSERT INTO notes VALUES (1, 'text')")
    settle(db, worker)
    assert (problem(db), IndexReader(index.client, "notes").count()) == (None, 1)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            models.VectorParams(size=32, distance=models.Distance.DOT),
            "compares by Dot, the source's profile says Cosine",
        ),
        (
            models.VectorParams(size=8, distance=models.Distance.COSINE),
            "holds vectors of 8 dimensions, the embedder makes",
        ),
    ],
)
def test_a_collection_of_other_dimensions_or_distance_is_told_before_any_work(
    db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader, made: models.VectorParams, told: str
) -> None:
    index.client.create_collection("notes__g1", vectors_config=made)
    attached(db, worker, Profile())
    assert told in (problem(db) or "")
    assert not provider.calls


def test_a_stored_profile_that_hides_new_points_from_searches_is_the_sources_problem(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    """One that was stored before it was refused."""
    attached(db, worker, Profile(collection={"optimizers_config": {"prevent_unoptimized": True}}))
    assert "prevent_unoptimized would keep new points from being found" in (problem(db) or "")
    assert not index.client.collection_exists("notes__g1")


def test_a_collection_that_was_made_to_hide_new_points_is_the_sources_problem_until_it_does_not(
    db: Connection, worker: Worker, index: IndexReader
) -> None:
    hiding = models.OptimizersConfigDiff(prevent_unoptimized=True)
    vectors = models.VectorParams(size=32, distance=models.Distance.COSINE)
    index.client.create_collection("notes__g1", vectors_config=vectors, optimizers_config=hiding)
    if not index.client.get_collection("notes__g1").config.optimizer_config.prevent_unoptimized:
        pytest.skip("this server does not keep the parameter; a real one does")
    attached(db, worker, Profile())
    assert "'notes__g1' has optimizers_config.prevent_unoptimized" in (problem(db) or "")
    showing = models.OptimizersConfigDiff(prevent_unoptimized=False)
    index.client.update_collection("notes__g1", optimizers_config=showing)
    db.execute("UPDATE reindexer.due SET not_before = now()")
    settle(db, worker)
    assert (problem(db), IndexReader(index.client, "notes").count()) == (None, 1)
