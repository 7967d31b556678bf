"""The same model at another address may be another model in truth: it has to show that it makes the same vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from reindexer.client import Client
from reindexer.core.errors import NotThisProcess, OtherEmbedder
from reindexer.core.lanes import Lane
from reindexer.core.search_terms import SearchTerms
from reindexer.generations import lifecycle
from reindexer.index.search import search, searchable
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.embedder_record import record
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error
from reindexer.wiring import purse, query_embedder_of
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.generations import settle
from tests.support.index_reader import IndexReader
from tests.support.reconciling import assert_index_equals_table, ready
from tests.support.restoring import points

NAME = "context_items"


@pytest.fixture
def same() -> Iterator[FakeProvider]:
    """The same model at another address."""
    running = FakeProvider()
    yield running
    running.close()


@pytest.fixture
def stranger() -> Iterator[FakeProvider]:
    """Another model that goes by the same name."""
    running = FakeProvider()
    running.behave = lambda call: running.vectors(replace(call, inputs=tuple(f"other {text}" for text in call.inputs)))
    yield running
    running.close()


@pytest.fixture
def worker_at(settings: Settings, index: IndexReader) -> Iterator[Callable[[FakeProvider], Worker]]:
    """A worker whose environment names this server."""
    made = list[Worker]()

    def make(provider: FakeProvider) -> Worker:
        made.append(make_worker(at(settings, provider), None))
        return made[-1]

    yield make
    for each in made:
        each.close()


def at(settings: Settings, provider: FakeProvider) -> Settings:
    return settings.model_copy(update={"openai_base_url": provider.url})


def servers(db: Connection, number: int = 1) -> list[str]:
    row = db.execute("SELECT servers FROM reindexer.generation WHERE number = %s", [number]).fetchone()
    return list(row[0]) if row else []


def problem(db: Connection) -> str | None:
    return status(db).sources[NAME].problem


def test_the_first_worker_records_its_address_with_the_embedder(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    ready(db, worker, 2)
    assert servers(db) == [provider.url]
    assert set(provider.inputs) == {"text 0", "text 1"}


def test_an_address_that_makes_the_same_vectors_shows_it_once_and_works(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, same: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    ready(db, worker, 8)
    moved, calls = worker_at(same), len(provider.calls)
    insert(db, "new")
    work(db, moved)
    assert_index_equals_table(db, index)
    shown, embedded = same.calls
    assert len(shown.inputs) == 5
    assert set(shown.inputs) < {f"text {number}" for number in range(8)}
    assert embedded.inputs == ("new",)
    assert servers(db) == [provider.url, same.url]
    for text in ("newer", "newest"):
        insert(db, text)
        work(db, moved)
    assert [call.inputs for call in same.calls[2:]] == [("newer",), ("newest",)]
    assert (len(provider.calls), problem(db)) == (calls, None)


def test_an_address_that_makes_other_vectors_writes_none_and_others_take_the_items_at_once(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, stranger: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    ready(db, worker, 3)
    before = points(index)
    wrong = worker_at(stranger)
    insert(db, "new")
    db.execute("UPDATE context_items SET content = 'edited' WHERE content = 'text 0'")
    work(db, wrong)
    assert points(index) == before
    told = problem(db) or ""
    assert f"{stranger.url} has not shown that it makes the vectors of generation 1 of 'context_items'" in told
    assert "of a stored text its vector has a cosine of" in told
    assert db.execute("SELECT count(*), max(attempts) FROM reindexer.due").fetchone() == (2, 0)
    assert (servers(db), len(stranger.calls)) == ([provider.url], 1)
    work(db, wrong)  # it leaves the source to others for a while
    assert len(stranger.calls) == 1
    work(db, worker)
    assert_index_equals_table(db, index)
    assert problem(db) is None


def test_while_the_other_address_does_not_answer_nothing_is_decided(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, same: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    ready(db, worker, 1)
    same.behave = lambda _: error(500)
    insert(db, "new")
    work(db, worker_at(same))
    assert (servers(db), index.count()) == ([provider.url], 1)


def test_a_generation_of_an_older_version_takes_the_first_address_and_the_second_has_to_show_it(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, stranger: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    ready(db, worker, 1)
    db.execute("UPDATE reindexer.generation SET servers = '{}'")
    calls = len(provider.calls)
    insert(db, "new")
    work(db, worker)
    assert ([call.inputs for call in provider.calls[calls:]], servers(db)) == ([("new",)], [provider.url])
    insert(db, "newer")
    work(db, worker_at(stranger))
    assert (servers(db), index.count()) == ([provider.url], 2)


def test_where_a_worker_read_no_address_and_another_was_first_it_has_to_show_its_own(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider,
    stranger: FakeProvider, worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    ready(db, worker, 1)
    wrong = worker_at(stranger)
    db.execute("UPDATE reindexer.generation SET servers = '{}'")
    read_before = wrong.embedder_of(find_source(db, NAME))
    insert(db, "new")
    work(db, worker)
    with pytest.raises(OtherEmbedder):
        read_before.embed(["text"], timeout_s=5)
    assert servers(db) == [provider.url]


def test_where_no_stored_text_is_left_the_address_is_taken_and_the_former_ones_have_to_show_it(
    db: Connection, worker: Worker, index: IndexReader, stranger: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    ready(db, worker, 2)
    db.execute("UPDATE context_items SET content = content || ' edited'")
    work(db, worker_at(stranger))
    assert (servers(db), problem(db)) == ([stranger.url], None)
    before = points(index)
    insert(db, "new")
    work(db, worker)
    assert points(index) == before
    assert "has not shown that it makes the vectors" in (problem(db) or "")


def test_before_anything_is_stored_another_address_waits_for_those_who_began(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, stranger: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    insert(db, "first")
    record(db, NAME, 1, "openai:text-embedding-3-small:32", provider.url)
    drain(db)
    assert worker.claim(Lane.LIVE) is not None
    insert(db, "second")
    work(db, worker_at(stranger))
    assert (servers(db), index.count()) == ([provider.url], 0)
    assert "nothing is stored yet to compare with, and others are at work on it" in (problem(db) or "")


def test_of_two_addresses_that_begin_together_the_second_waits(db: Connection) -> None:
    record(db, NAME, 1, "one:32", "http://a/v1")
    record(db, NAME, 1, "one:32", "http://a/v1")
    with pytest.raises(NotThisProcess, match="is being made at http://a/v1; this process asks http://b/v1"):
        record(db, NAME, 1, "one:32", "http://b/v1")
    assert servers(db) == ["http://a/v1"]


def test_of_two_addresses_that_are_first_at_once_one_is_taken(db: Connection) -> None:
    record(db, NAME, 1, "one:32")
    for server in ("http://a/v1", "http://b/v1"):
        named = {"name": NAME, "generation": 1, "embedder": "one:32", "server": server}
        db.execute(load("sources.sql")["accept_first_server"], named)
    assert servers(db) == ["http://a/v1"]


def test_a_rebuild_by_the_same_embedder_inherits_the_addresses(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    """It may take over vectors that were made there."""
    ready(db, worker, 1)
    source = find_source(db, NAME)
    lifecycle.rebuild(db, replace(source, chunk_tokens=100, made_by=None), str(source.made_by), who="test")
    lifecycle.cancel(db, NAME, who="test")
    lifecycle.rebuild(db, replace(source, made_by=None), "another:32", who="test")
    assert (servers(db, 2), servers(db, 3)) == ([provider.url], [])


def test_a_search_at_another_address_finds_only_if_that_makes_the_same_vectors(
    db: Connection, env: Mapping[str, str], worker: Worker, index: IndexReader, same: FakeProvider,
    stranger: FakeProvider, here: Callable[..., Done],
) -> None:  # fmt: skip
    ready(db, worker, 3)
    found = here("search", NAME, "text 0", env={**env, "OPENAI_BASE_URL": same.url})
    assert (found.returncode, found.stdout[:5], len(same.calls)) == (0, "1.000", 2)
    refused = here("search", NAME, "text 0", env={**env, "OPENAI_BASE_URL": stranger.url})
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "has not shown that it makes the vectors of generation 1 of 'context_items'" in refused.stderr
    assert stranger.url not in servers(db)


def test_a_search_at_a_known_address_asks_postgres_nothing_more(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider, same: FakeProvider
) -> None:
    ready(db, worker, 3)
    there, calls = searchable(db, NAME), len(provider.calls)
    elsewhere = settings.model_copy(update={"database_url": None, "qdrant_url": None})
    embedder = query_embedder_of(elsewhere, paying=purse(settings))(there.source)  # which Postgres has to know of
    assert len(search(embedder, worker.index, there.collection, "text 0", SearchTerms(5), timeout_s=5)) == 3
    assert [call.inputs for call in provider.calls[calls:]] == [("text 0",)]
    told = query_embedder_of(at(settings, same))
    for _ in range(2):
        search(told(there.source), worker.index, there.collection, "text 0", SearchTerms(5), timeout_s=5)
    assert len(same.calls) == 3, "it is proven once, though `there` is older than that"


def test_a_refused_search_asks_the_other_address_once_in_ten_seconds(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, stranger: FakeProvider
) -> None:
    ready(db, worker, 1)
    there, embedder_of = searchable(db, NAME), query_embedder_of(at(settings, stranger))
    for _ in range(3):
        with pytest.raises(OtherEmbedder):
            search(embedder_of(there.source), worker.index, there.collection, "text 0", SearchTerms(5), timeout_s=5)
    assert len(stranger.calls) == 1


def test_sources_whose_model_is_known_at_other_addresses_share_no_query_vector(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, stranger: FakeProvider,
    worker_at: Callable[[FakeProvider], Worker],
) -> None:  # fmt: skip
    """One name of a model, two models: what the one makes is compared with none of the other's points."""
    ready(db, worker, 3)
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'text 0')")
    with Client(at(settings, stranger)) as client:
        client.attach("notes", table="notes", text="body")
        settle(db, worker_at(stranger))
        assert [hit.score for hit in client.search("notes", "text 0").hits] == [pytest.approx(1, abs=1e-3)]
        with pytest.raises(OtherEmbedder, match="has not shown that it makes the vectors"):
            client.search(["notes", NAME], "text 0")
