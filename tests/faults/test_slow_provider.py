"""A provider that is slow, as a model on one's own machine is: requests that are too large for their time."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue import requests
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, Reply, error, vector_of
from reindexer.wiring import embedder_of
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.outages import work_until_done

pytestmark = pytest.mark.long

LEASE_S = 10.0
TIMEOUT_S = 0.5


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    """A provider is waited for half a second, and a claim lasts for ten."""
    return {**env, "REINDEXER_EMBEDDING_TIMEOUT_S": str(TIMEOUT_S), "REINDEXER_LEASE_S": str(LEASE_S)}


def takes(a_text_s: float) -> Callable[[Call], Reply | None]:
    """It takes so long for each text."""

    def behave(call: Call) -> None:
        time.sleep(a_text_s * len(call.inputs))

    return behave


@pytest.fixture
def warm(db: Connection, worker: Worker, provider: FakeProvider) -> FakeProvider:
    """The provider, asked before: clients are made, the collection is there."""
    insert(db, "first")
    work_until_done(db, worker)
    provider.calls.clear()
    return provider


@pytest.mark.alone
def test_requests_that_take_too_long_become_smaller_and_use_no_attempt_and_larger_again_when_it_is_quicker(
    db: Connection, worker: Worker, index: IndexReader, warm: FakeProvider
) -> None:
    warm.behave = takes(0.02)
    for n in range(120):
        insert(db, f"text {n}")
    work_until_done(db, worker)
    assert index.count() == 121
    assert db.execute("SELECT DISTINCT outcome, attempts FROM reindexer.ledger").fetchall() == [("COMPLETED", 1)]
    sizes = [len(call.inputs) for call in warm.calls]
    assert sizes[0] == 120
    assert max(sizes[1:]) < 20
    assert sum(sizes[1:]) == 120, "what was embedded is not embedded again"
    warm.calls.clear()
    warm.behave = lambda call: None
    for n in range(500):
        insert(db, f"more {n}")
    work_until_done(db, worker)
    assert max(len(call.inputs) for call in warm.calls) > 100


@pytest.mark.alone
def test_requests_become_smaller_before_they_take_too_long(
    db: Connection, worker: Worker, index: IndexReader, warm: FakeProvider
) -> None:
    warm.behave = takes(0.01)
    for n in range(200):
        insert(db, f"text {n}")
        if n == 35:
            work_until_done(db, worker)
    work_until_done(db, worker)
    assert index.count() == 201
    sizes = [len(call.inputs) for call in warm.calls]
    assert sizes[0] == 36
    assert max(sizes[1:]) < 36
    assert sum(sizes) == 200


def sentences(of: int, word: str = "bees") -> str:
    """A text that becomes so many chunks."""
    return " ".join(f"Sentence {n:03} of the book on {word} and bridges." for n in range(of))


@dataclass
class Book:
    """A long text of as many chunks as sentences, of which a request holds four."""

    db: Connection
    worker: Worker
    index: IndexReader
    provider: FakeProvider

    def write(self, text: str) -> None:
        """As an application does."""
        self.db.execute(
            "INSERT INTO book VALUES (1, %s, 'a title') ON CONFLICT (id) DO UPDATE SET body = excluded.body", [text]
        )

    def work(self) -> None:
        """Until nothing is due."""
        work_until_done(self.db, self.worker, within=60)

    def begin(self, requests: int) -> None:
        """A claim of which the provider answers so many requests, and no further one."""
        sent = len(self.provider.calls)
        self.provider.behave = lambda call: error(500) if len(self.provider.calls) > sent + requests else None
        drain(self.db)
        self.worker.run_lane(Lane.LIVE, budget_s=0)
        self.provider.behave = lambda call: None
        self.provider.calls.clear()

    def texts(self) -> list[str]:
        """Of its points, in order; each has the vector of its text."""
        (body,) = self.db.execute("SELECT body FROM book").fetchone() or ("",)
        records, _ = self.index.client.scroll("book", limit=10_000, with_payload=True, with_vectors=True)
        facts = {r.payload["_reindexer"]["chunk"]: (r, r.payload["_reindexer"]["span"]) for r in records if r.payload}
        assert sorted(facts) == list(range(len(facts)))
        found = [body[slice(*facts[n][1])] for n in range(len(facts))]
        for n, text in enumerate(found):
            assert np.allclose(np.asarray(facts[n][0].vector), vector_of(text), atol=1e-5)
        return found


@pytest.fixture
def book(db: Connection, worker: Worker, settings: Settings, index: IndexReader, warm: FakeProvider) -> Book:
    db.execute("CREATE TABLE book (id int PRIMARY KEY, body text, title text)")
    with changing_triggers(db):
        attach(db, Source("book", "public", "book", ("id",), ("body",), ("title",), chunk_tokens=16))
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    worker.embedder_of = embedder_of(settings.model_copy(update={"embedding_max_inputs": 4}))
    worker.limits = replace(worker.limits, lease_s=60.0, provider_timeout_s=20.0)
    return Book(db, worker, IndexReader(index.client, "book"), warm)


@pytest.mark.alone
def test_a_text_whose_chunks_take_longer_than_a_claim_goes_on_where_the_last_claim_stopped(
    db: Connection, book: Book
) -> None:
    book.worker.limits = replace(book.worker.limits, lease_s=6.0, provider_timeout_s=2.0)
    book.provider.latency_s = 0.4
    book.write(sentences(80))
    drain(db)
    book.worker.run_lane(Lane.LIVE, budget_s=0)
    told, tried = db.execute("SELECT waits_for, attempts FROM reindexer.due").fetchone() or ("", 0)
    assert re.fullmatch(r"\d+ of its 80 chunks are embedded: it goes on from there", told)
    assert tried == 0
    book.work()
    assert book.texts() == sentences(80).replace(". ", ".\n").split("\n")
    assert sorted(book.provider.inputs) == sorted(book.texts()), "nothing is embedded twice"


def test_what_was_embedded_of_a_long_text_before_the_provider_failed_is_not_embedded_again(book: Book) -> None:
    book.write(sentences(24))
    book.begin(requests=4)
    book.work()
    assert book.texts() == sentences(24).replace(". ", ".\n").split("\n")
    assert len(book.provider.inputs) == 8


def test_a_text_that_is_edited_when_it_is_begun_embeds_what_is_new_and_what_was_missing(book: Book) -> None:
    book.write(sentences(24))
    book.begin(requests=4)
    book.write("A new first sentence of the book. " + sentences(24))
    book.work()
    assert " ".join(book.texts()) == "A new first sentence of the book. " + sentences(24)
    assert len(book.provider.inputs) <= 11


def test_back_to_the_former_text_when_the_new_one_is_begun_ends_with_the_former(book: Book) -> None:
    book.write(sentences(24))
    book.work()
    book.write(sentences(24, "flowers"))
    book.begin(requests=4)
    book.write(sentences(24))
    book.work()
    assert " ".join(book.texts()) == sentences(24)
    assert len(book.provider.inputs) == 16, "those that the new text had taken the place of"


@pytest.mark.parametrize("was", ["new", "indexed"])
def test_a_text_that_is_begun_and_then_shrinks_or_goes_leaves_no_point(db: Connection, book: Book, was: str) -> None:
    if was == "indexed":
        book.write("A short one.")
        book.work()
    book.write(sentences(24))
    book.begin(requests=4)
    assert book.index.count() == 16
    book.write("It is short now.")
    book.work()
    assert book.texts() == ["It is short now."]
    book.write(sentences(24))
    book.begin(requests=4)
    db.execute("DELETE FROM book")
    book.work()
    assert book.index.count() == 0


def test_a_request_for_a_begun_text_gets_all_of_it_embedded_anew_also_by_several_claims(
    db: Connection, book: Book
) -> None:
    book.write(sentences(24))
    book.begin(requests=4)
    requests.record(db, "book", [requests.ReindexRequest(str(uuid.uuid4()), "1")], lane=Lane.LIVE, sent=True)
    book.begin(requests=2)
    book.work()
    assert len(book.provider.inputs) == 16, "8 of 24 were embedded since the request"
    assert " ".join(book.texts()) == sentences(24)


def test_a_worker_that_dies_with_a_begun_text_costs_what_it_has_not_written(db: Connection, book: Book) -> None:
    book.write(sentences(24))
    book.begin(requests=4)
    db.execute("UPDATE reindexer.due SET not_before = now()")
    assert claim_batch(db, Lane.LIVE, 10, 0.01) is not None  # and its worker dies
    book.work()
    assert len(book.provider.inputs) == 8
    assert " ".join(book.texts()) == sentences(24)


def test_a_text_that_fails_for_good_when_it_is_begun_is_embedded_from_there_by_a_replay(
    db: Connection, book: Book
) -> None:
    book.worker.policy = replace(book.worker.policy, max_retries=0)
    book.write(sentences(24))
    book.begin(requests=4)
    assert db.execute("SELECT outcome, chunks FROM reindexer.ledger WHERE source = 'book'").fetchall() == [
        ("FAILED", 24)
    ]
    book.write(sentences(20))
    book.work()
    assert " ".join(book.texts()) == sentences(20)
    assert len(book.provider.inputs) == 4


def test_a_payload_that_changes_when_a_text_is_begun_reaches_all_its_points_without_the_provider(
    db: Connection, book: Book
) -> None:
    def titles() -> set[str]:
        records, _ = book.index.client.scroll("book", limit=10_000, with_payload=True)
        return {(r.payload or {})["title"] for r in records}

    book.write(sentences(24))
    book.begin(requests=4)
    for title in ("another", "a title"):
        db.execute("UPDATE book SET title = %s", [title])
        book.begin(requests=0)
        assert book.index.count() == 16
        assert titles() == {title}
    book.work()
    assert titles() == {"a title"}
    assert len(book.provider.inputs) == 8
