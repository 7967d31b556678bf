"""Search by meaning, by keywords and by both: over HTTP, in Python and by command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import pytest
from fastapi.testclient import TestClient
from qdrant_client import models

from api.main import create_app
from reindexer import Client
from reindexer.core.errors import TransientError
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider, error
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.generations import settle
from tests.support.index_reader import IndexReader

KEY = {"X-API-Key": "test-admin-key"}


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def letters(db: Connection, worker: Worker, client: Client, provider: FakeProvider) -> None:
    """Letters that have keywords, and notes that have none. Nothing is due."""
    db.execute("CREATE TABLE letters (id int PRIMARY KEY, lang text, body text)")
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute(
        "INSERT INTO letters SELECT n, 'en', 'Invoice INV-' || 2290 + n || ' is overdue' FROM generate_series(1, 20) AS n"
    )
    db.execute("INSERT INTO letters VALUES (100, 'ko', '물을 마신다'), (101, 'ja', '全文検索エンジン')")
    db.execute("INSERT INTO notes VALUES (1, 'Invoice INV-2291')")
    client.attach("letters", table="letters", text="body", payload="lang", keywords=True)
    client.attach("notes", table="notes", text="body")
    settle(db, worker)
    provider.calls.clear()


@pytest.fixture
def api(settings: Settings, letters: None) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as api:
        yield api


def found(api: TestClient, query: str, **more: object) -> list[str]:
    answer = api.post("/search", json={"source": "letters", "query": query, **more})
    assert answer.status_code == 200, answer.text
    return [hit["item_id"] for hit in answer.json()["hits"]]


@pytest.mark.parametrize("mode", ["keywords", "hybrid", None])
@pytest.mark.parametrize(("query", "item_id"), [("INV-2291", "1"), ("물", "100"), ("検索", "101")])
@pytest.mark.first(5)
def test_an_exact_word_is_found_first(api: TestClient, mode: str | None, query: str, item_id: str) -> None:
    assert found(api, query, mode=mode)[0] == item_id


def test_the_row_of_a_number_comes_first_wherever_it_is_in_meaning_and_whatever_words_are_beside(
    api: TestClient,
) -> None:
    """The provider's vectors are random: some row or other is nearest in meaning to each query."""
    for n in range(1, 21):
        assert found(api, f"overdue invoice INV-{2290 + n}")[0] == str(n)


def test_keywords_alone_ask_no_provider_and_find_what_has_the_words_and_nothing_else(
    api: TestClient, provider: FakeProvider
) -> None:
    assert found(api, "2291", mode="keywords") == ["1"]
    assert found(api, "unheard", mode="keywords") == []
    assert found(api, "?!", mode="keywords") == []
    assert len(found(api, "invoices", mode="keywords", limit=5, offset=18)) == 2
    assert found(api, "overdue", mode="keywords", filter={"lang": "ko"}) == []
    assert provider.calls == []


def test_both_ways_count_together_and_a_query_without_a_word_counts_by_its_meaning(api: TestClient) -> None:
    first = found(api, "물을 마신다 INV-2295", mode="hybrid")
    assert first[0] == "5"
    assert "100" in first[:4]
    assert len(found(api, "?!", mode="hybrid")) == 10
    assert found(api, "INV-2295", filter={"lang": "ko"}) == ["100"]


def test_a_source_without_keywords_is_searched_by_meaning_and_refuses_another_mode(api: TestClient) -> None:
    assert found(api, "Invoice INV-2291", source="notes") == ["1"]
    for mode in ("keywords", "hybrid"):
        answer = api.post("/search", json={"source": "notes", "query": "x", "mode": mode})
        assert answer.status_code == 422
        assert "'notes' has no keywords" in answer.json()["detail"]


def test_a_least_score_is_refused_where_ranks_are_fused(api: TestClient) -> None:
    answer = api.post("/search", json={"source": "letters", "query": "x", "min_score": 0.5})
    assert answer.status_code == 422
    assert "ranks are no scores" in answer.json()["detail"]
    assert found(api, "INV-2291", mode="keywords", min_score=1.0) == ["1"]
    assert found(api, "INV-2291", mode="keywords", min_score=100.0) == []


def test_several_sources_are_each_searched_in_their_own_way(api: TestClient) -> None:
    answer = api.post("/search", json={"sources": ["letters", "notes"], "query": "Invoice INV-2291"})
    assert {(hit["source"], hit["item_id"]) for hit in answer.json()["hits"][:2]} == {("letters", "1"), ("notes", "1")}


def test_while_no_query_can_be_embedded_its_words_count_and_the_answer_says_so(
    api: TestClient, provider: FakeProvider, client: Client, settings: Settings, letters: None
) -> None:
    provider.behave = lambda _: error(503)
    answer = api.post("/search", json={"source": "letters", "query": "letter 2291"})
    assert (answer.status_code, answer.json()["degraded"]) == (200, "keywords")
    assert [hit["item_id"] for hit in answer.json()["hits"]] == ["1"]
    assert client.search("letters", "letter 2291").degraded == "keywords"
    assert api.post("/search", json={"source": "letters", "query": "x", "mode": "meaning"}).status_code == 503
    assert api.post("/search", json={"source": "letters", "query": "?!"}).status_code == 503
    assert api.post("/search", json={"source": "notes", "query": "x"}).status_code == 503
    strict = settings.model_copy(update={"search_degrades": False})
    with Client(strict) as other, pytest.raises(TransientError):
        other.search("letters", "INV-2291")
    provider.behave = lambda _: None
    assert "degraded" not in api.post("/search", json={"source": "letters", "query": "INV-2291"}).json()


def test_until_a_worker_adds_keywords_a_search_goes_by_meaning_and_says_so(
    api: TestClient, client: Client, db: Connection, worker: Worker, here: Callable[..., Done], env: Mapping[str, str],
    settings: Settings,
) -> None:  # fmt: skip
    client.attach("notes", keywords=True)
    asked = {"source": "notes", "query": "Invoice INV-2291"}
    answer = api.post("/search", json=asked)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["degraded"], len(answer.json()["hits"])) == ("meaning", 1)
    assert "no keywords yet" in here("search", "notes", "x", env=env).stderr
    refused = api.post("/search", json=asked | {"mode": "keywords"})
    assert refused.status_code == 503
    assert "holds no keywords yet" in refused.json()["detail"]
    with Client(settings.model_copy(update={"search_degrades": False})) as strict, pytest.raises(TransientError):
        strict.search("notes", "x")
    settle(db, worker)
    assert "degraded" not in api.post("/search", json=asked).json()
    assert len(api.post("/search", json=asked | {"mode": "keywords"}).json()["hits"]) == 1


@pytest.mark.parametrize(("query", "item_id"), [("overdue INV-2291", "1"), ("물", "100"), ("検索", "101")])
def test_an_application_gets_the_words_of_a_query_beside_its_vector_and_asks_qdrant_itself(
    client: Client, letters: None, index: IndexReader, query: str, item_id: str
) -> None:
    asked = client.embed_query("letters", query, keywords=True)
    assert asked.keywords is not None
    words = models.SparseVector(indices=list(asked.keywords.indices), values=list(asked.keywords.values))
    found = index.client.query_points(asked.collection, query=words, using="bm25", limit=1).points
    assert [(each.payload or {})["_reindexer"]["item_id"] for each in found] == [item_id]
    assert client.embed_query("letters", query).keywords is None
    assert client.embed_query("notes", query, keywords=True).keywords is None


def test_python_and_commands_search_alike(
    client: Client, here: Callable[..., Done], env: Mapping[str, str], provider: FakeProvider, letters: None
) -> None:
    assert [hit.item_id for hit in client.search("letters", "2291", mode="keywords").hits] == ["1"]
    done = here("search", "letters", "2291", "--mode", "keywords", "--json", env=env)
    assert [hit["item_id"] for hit in json.loads(done.stdout)["hits"]] == ["1"]
    done = here("search", "notes", "INV-2291", "--mode", "hybrid", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    provider.behave = lambda _: error(503)
    done = here("search", "letters", "INV-2291", "--json", env=env)
    assert json.loads(done.stdout)["degraded"] == "keywords"
    assert "could not be embedded" in done.stderr
