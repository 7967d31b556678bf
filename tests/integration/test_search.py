"""Search as an application asks for it: pages, least scores, chunks, more like this, several sources, texts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

import reindexer
from api.main import create_app
from reindexer import Client, wiring
from reindexer.core.filters import parse_filter
from reindexer.core.profile import Profile
from reindexer.core.search_terms import SearchTerms
from reindexer.index.similar import similar
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider, error
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert
from tests.support.generations import settle
from tests.support.index_reader import IndexReader

KEY = {"X-API-Key": "test-admin-key"}
PARAGRAPHS = ["The swarm rests in winter.", "Honey is made in summer.", "The queen lays eggs in spring."]
"""Of a page, whose chunks they are."""
CHUNK_TOKENS = 16


@pytest.fixture
def api(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as api:
        yield api


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def pages(db: Connection, worker: Worker, client: Client, provider: FakeProvider) -> None:
    """Pages of three paragraphs, and notes of one text each. Nothing is due."""
    db.execute("CREATE TABLE pages (slug text PRIMARY KEY, lang text, body text)")
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, lang text, stars int, body text)")
    db.execute("INSERT INTO pages VALUES ('bees', 'en', %s), ('short', 'nl', 'Honey.')", ["\n\n".join(PARAGRAPHS)])
    db.execute("INSERT INTO notes SELECT n, 'en', n, 'note ' || n FROM generate_series(1, 12) AS n")
    client.attach("pages", table="pages", text="body", payload="lang", chunk_tokens=CHUNK_TOKENS)
    client.attach("notes", table="notes", text="body", payload=["lang", "stars"])
    settle(db, worker)
    provider.calls.clear()


def hits(api: TestClient, route: str = "/search", **body: Any) -> list[dict[str, Any]]:
    answer = api.post(route, json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["hits"])


def refusal(api: TestClient, code: int, route: str = "/search", **body: Any) -> str:
    """What is wrong, in one line."""
    answer = api.post(route, json=body)
    assert answer.status_code == code, answer.text
    detail = str(answer.json()["detail"])
    assert "\n" not in detail
    return detail


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [each["item_id"] for each in found]


def test_pages_of_a_search_follow_one_another(api: TestClient, pages: None) -> None:
    whole = hits(api, source="notes", query="note 7", limit=12)
    assert len(whole) == 12
    assert (ids(whole)[0], whole[0]["source"]) == ("7", "notes")
    paged = [hits(api, source="notes", query="note 7", limit=5, offset=offset) for offset in (0, 5, 10, 15)]
    assert [each for page in paged for each in page] == whole
    assert hits(api, source="notes", query="note 7", limit=100, offset=900) == []
    assert refusal(api, 422, source="notes", query="x", limit=100, offset=901) == (
        "offset and limit are 1,001 together; use at most 1,000"
    )
    assert "body.offset: must be at least 0" in refusal(api, 422, query="x", offset=-1)


def test_a_least_score_leaves_out_what_is_less_near(api: TestClient, pages: None) -> None:
    whole = hits(api, source="notes", query="note 7", limit=12)
    least = whole[3]["score"]
    assert hits(api, source="notes", query="note 7", limit=12, min_score=least) == whole[:4]
    assert hits(api, source="notes", query="note 7", limit=12, min_score=least, offset=2) == whole[2:4]
    assert hits(api, source="notes", query="note 7", min_score=2) == []
    content = b'{"query": "x", "min_score": NaN}'
    answer = api.post("/search", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (422, "body.min_score: must be a finite number")


@pytest.mark.parametrize("distance", ["euclid", "manhattan"])
def test_where_a_smaller_score_is_nearer_the_least_score_is_the_largest(
    distance: Any, db: Connection, worker: Worker, client: Client
) -> None:
    db.execute("CREATE TABLE far (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO far SELECT n, 'far ' || n FROM generate_series(1, 9) AS n")
    client.attach("far", table="far", text="body", profile=Profile(distance=distance))
    settle(db, worker)
    for group in ("item", "chunk"):
        whole = client.search("far", "far 3", group=group).hits
        assert (whole[0].item_id, len(whole)) == ("3", 9)
        assert [hit.score for hit in whole] == sorted(hit.score for hit in whole)
        near = client.search("far", "far 3", min_score=whole[4].score, group=group).hits
        assert near == whole[:5]


def test_each_chunk_is_a_hit_where_that_is_asked_for(api: TestClient, pages: None) -> None:
    query = PARAGRAPHS[1]
    by_item = hits(api, source="pages", query=query)
    assert ids(by_item) in (["bees", "short"], ["short", "bees"])
    by_chunk = hits(api, source="pages", query=query, group="chunk")
    assert sorted((each["item_id"], each["chunk"]) for each in by_chunk) == [
        ("bees", 0), ("bees", 1), ("bees", 2), ("short", 0),
    ]  # fmt: skip
    assert by_chunk[0]["chunk"] == 1
    assert by_chunk[0]["score"] == pytest.approx(1, abs=1e-3)
    assert hits(api, source="pages", query=query, group="chunk", limit=2, offset=1) == by_chunk[1:3]
    dutch = hits(api, source="pages", query=query, group="chunk", filter={"lang": "nl"})
    assert ids(dutch) == ["short"]
    assert "body.group: must be 'item' or 'chunk'" in refusal(api, 422, query="x", group="chunks")


def test_a_hit_has_the_text_of_its_chunk_while_that_is_what_was_indexed(
    api: TestClient, db: Connection, worker: Worker, pages: None
) -> None:
    def texts() -> dict[int, tuple[str | None, bool]]:
        found = hits(api, source="pages", query="bees", group="chunk", text=True, filter={"lang": "en"})
        return {each["chunk"]: (each["text"], each["changed"]) for each in found}

    assert texts() == {place: (text, False) for place, text in enumerate(PARAGRAPHS)}
    assert "text" not in hits(api, source="pages", query="bees")[0]
    edited = "\n\n".join([PARAGRAPHS[0], PARAGRAPHS[1].replace("made", "lost"), PARAGRAPHS[2]])
    db.execute("UPDATE pages SET body = %s WHERE slug = 'bees'", [edited])
    assert texts() == {0: (PARAGRAPHS[0], False), 1: (None, True), 2: (PARAGRAPHS[2], False)}
    settle(db, worker)
    assert {changed for _, changed in texts().values()} == {False}
    db.execute("DELETE FROM pages WHERE slug = 'bees'")
    assert set(texts().values()) == {(None, True)}
    settle(db, worker)
    assert texts() == {}


def test_a_text_is_rendered_by_the_sources_template_and_read_once_for_all_hits(
    api: TestClient, client: Client, db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    db.execute("CREATE TABLE books (id int, part int, title text, body text, PRIMARY KEY (id, part))")
    db.execute("INSERT INTO books VALUES (1, 1, 'Emma', 'handsome'), (1, 2, NULL, 'clever')")
    client.attach("books", table="books", text=["title", "body"], template="Title: {title}\n{body}")
    settle(db, worker)
    found = {each["item_id"]: each["text"] for each in hits(api, source="books", query="x", text=True)}
    assert sorted(found.values()) == sorted(text for text in provider.inputs if text != "x")
    assert found['["1", "1"]'] == "Title: Emma\nhandsome"
    db.execute("ALTER TABLE books RENAME COLUMN title TO name")
    assert "column 'title' of public.books does not exist" in refusal(api, 503, source="books", query="x", text=True)
    assert len(hits(api, source="books", query="x")) == 2


def test_similar_finds_what_is_near_to_an_item_and_not_itself_and_asks_no_provider(
    api: TestClient, db: Connection, worker: Worker, provider: FakeProvider, pages: None
) -> None:
    db.execute(
        "INSERT INTO pages VALUES ('copy', 'nl', %s), ('part', 'en', %s)", ["\n\n".join(PARAGRAPHS), PARAGRAPHS[0]]
    )
    settle(db, worker)
    provider.calls.clear()
    provider.behave = lambda call: error(500)
    found = hits(api, "/similar", source="pages", item_id="bees", text=True)
    assert sorted(ids(found)) == ["copy", "part", "short"]
    assert {each["item_id"]: each["text"] for each in found}["part"] == PARAGRAPHS[0]
    assert set(ids(found[:2])) == {"copy", "part"}
    chunks = hits(api, "/similar", source="pages", item_id="bees", group="chunk")
    assert sorted(ids(chunks)) == ["copy"] * 3 + ["part", "short"]
    assert hits(api, "/similar", source="pages", item_id="bees", group="chunk", limit=2, offset=1) == chunks[1:3]
    assert ids(hits(api, "/similar", source="pages", item_id="bees", filter={"lang": "nl"}, limit=1)) == ["copy"]
    near = hits(api, "/similar", source="pages", item_id="bees", min_score=found[1]["score"])
    assert near == [
        {name: value for name, value in each.items() if name not in ("text", "changed")} for each in found[:2]
    ]
    assert provider.calls == []


def test_similar_to_an_item_that_is_not_indexed_is_404_in_one_line(
    api: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    known, blank = insert(db, "text"), insert(db, " ")
    settle(db, worker)
    waits = insert(db, "not yet")
    detail = refusal(api, 404, "/similar", item_id=waits)
    assert detail == (
        "the index holds nothing of this item of 'context_items': there is no such item, it is not indexed yet, or it "
        "has no text; `reindexer why` tells which"
    )
    for other in (str(uuid.uuid4()), "no uuid", blank, "x" * 3000, "1"):
        assert refusal(api, 404, "/similar", item_id=other) == detail
    assert refusal(api, 404, "/similar", source="nothing", item_id=known).startswith("there is no source 'nothing'")
    assert hits(api, "/similar", item_id=known.upper()) == [], "itself, in another spelling"
    index.client.delete_collection("context_items__g1")
    assert refusal(api, 404, "/similar", item_id=known) == detail


def test_similar_takes_a_composite_key_in_any_spelling_and_a_key_that_is_too_long_to_be_an_id(
    client: Client, db: Connection, worker: Worker
) -> None:
    db.execute("CREATE TABLE parts (id int, part uuid, body text, PRIMARY KEY (id, part))")
    db.execute("CREATE TABLE words (word text PRIMARY KEY, body text)")
    one = uuid.uuid4()
    db.execute("INSERT INTO parts VALUES (1, %s, 'one'), (2, %s, 'two')", [one, one])
    db.execute("INSERT INTO words VALUES (%s, 'one'), ('short', 'two')", [long := "word " * 530])
    client.attach("parts", table="parts", text="body")
    client.attach("words", table="words", text="body")
    settle(db, worker)
    for given in (f'["1", "{one}"]', f'[1,"{str(one).upper()}"]'):
        assert [hit.item_id for hit in client.similar("parts", given).hits] == [f'["2", "{one}"]']
    (alike,) = client.similar("words", "short", text=True).hits
    assert (len(alike.item_id), alike.text) == (274, "one")
    for given in (long, alike.item_id):
        assert [hit.item_id for hit in client.similar("words", given).hits] == ["short"]


def test_similar_to_an_item_that_a_condition_hides_is_as_to_one_that_is_not_there(
    settings: Settings, client: Client, pages: None
) -> None:
    """As of a caller who sees only some items: no answer tells whether another one is there."""

    def ids_like(item_id: str, seen: Mapping[str, Any]) -> list[str]:
        by = wiring.searcher(settings)
        condition = partial(parse_filter, seen)
        found = similar(
            partial(client._searchable, "notes"), client._connection, by, item_id, SearchTerms(3), condition,
            forced_of=condition,
        )  # fmt: skip
        return [hit.item_id for hit in found.hits]

    assert sorted(ids_like("2", {"stars": {"lte": 2}})) == ["1"]
    with pytest.raises(reindexer.NoSuchItem) as absent:
        ids_like("13", {"stars": {"lte": 2}})
    with pytest.raises(reindexer.NoSuchItem) as hidden:
        ids_like("3", {"stars": {"lte": 2}})
    assert str(hidden.value) == str(absent.value)


def test_several_sources_are_fused_by_rank_and_one_embedder_is_asked_once(
    api: TestClient, provider: FakeProvider, pages: None
) -> None:
    one = hits(api, source="notes", query="note 7", limit=100)
    other = hits(api, source="pages", query="note 7", limit=100)
    provider.calls.clear()
    found = hits(api, sources=["notes", "pages", "notes"], query="note 7", limit=100)
    assert [call.inputs for call in provider.calls] == [("note 7",)]
    assert len(found) == len(one) + len(other)
    assert [(each["source"], each["item_id"]) for each in found[:4]] == [
        ("notes", one[0]["item_id"]), ("pages", other[0]["item_id"]),
        ("notes", one[1]["item_id"]), ("pages", other[1]["item_id"]),
    ]  # fmt: skip
    assert [each["score"] for each in found[:4]] == pytest.approx([1 / 61, 1 / 61, 1 / 62, 1 / 62])
    pages_of = [hits(api, sources=["notes", "pages"], query="note 7", limit=5, offset=5 * n) for n in range(4)]
    assert [each for page in pages_of for each in page] == found
    assert ids(hits(api, sources=["notes"], query="note 7", limit=2, min_score=0.9)) == ["7"], "one is no fusion"


def test_a_search_of_several_sources_tells_what_does_not_fit_one_of_them_before_it_asks_a_provider(
    api: TestClient, provider: FakeProvider, pages: None
) -> None:
    both: dict[str, Any] = {"sources": ["notes", "pages"], "query": "x"}
    assert len(hits(api, **both, filter={"lang": "en"}, limit=100)) == 13
    provider.calls.clear()
    assert refusal(api, 422, **both, filter={"stars": 1}) == (
        "source 'pages': the filter's 'stars' is no payload column; there are lang"
    )
    assert "ranks are no scores" in refusal(api, 422, **both, min_score=0.5)
    assert refusal(api, 422, **both, source="notes") == "body: must not have both `source` and `sources`"
    assert "body.sources: must not be empty" in refusal(api, 422, sources=[], query="x")
    assert refusal(api, 404, sources=["notes", "nots"], query="x").startswith("there is no source 'nots'")
    assert provider.calls == []


def test_several_sources_have_their_texts_too(api: TestClient, db: Connection, pages: None) -> None:
    db.execute("UPDATE notes SET body = 'edited' WHERE id = 7")
    found = hits(api, sources=["notes", "pages"], query="note 7", limit=100, group="chunk", text=True)
    told = {(each["source"], each["item_id"], each["chunk"]): (each["text"], each["changed"]) for each in found}
    assert len(told) == 16
    assert (told["notes", "7", 0], told["notes", "8", 0]) == ((None, True), ("note 8", False))
    assert told["pages", "bees", 2] == (PARAGRAPHS[2], False)


def test_sources_of_two_models_are_each_asked_by_their_own(
    api: TestClient, client: Client, db: Connection, worker: Worker, provider: FakeProvider, pages: None
) -> None:
    db.execute("CREATE TABLE small (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO small VALUES (1, 'note 7'), (2, 'other')")
    client.attach("small", table="small", text="body", profile=Profile(dimensions=8))
    settle(db, worker)
    provider.calls.clear()
    found = hits(api, sources=["small", "notes"], query="note 7", limit=2)
    assert [(each["source"], each["item_id"]) for each in found] == [("small", "1"), ("notes", "7")]
    assert sorted(call.body["dimensions"] for call in provider.calls) == [8, 32]


def test_an_open_search_gives_no_texts_without_the_key(
    settings: Settings, db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "secret words")
    settle(db, worker)
    with TestClient(create_app(settings.model_copy(update={"search_open": True}))) as api:
        assert ids(hits(api, query="x")) == [item_id]
        assert hits(api, "/similar", item_id=item_id) == []
        for route, asked in (("/search", {"query": "x"}), ("/similar", {"item_id": item_id})):
            assert "the key is wrong, has ended or is missing" in refusal(api, 401, route, **asked, text=True)
            assert api.post(route, json=asked | {"text": True}, headers=KEY).status_code == 200


def test_an_open_search_gives_no_texts_of_payloads_without_the_key(
    settings: Settings, db: Connection, worker: Worker, client: Client
) -> None:
    db.execute("CREATE TABLE memos (id int PRIMARY KEY, lang text, body text)")
    db.execute("INSERT INTO memos VALUES (1, 'en', 'secret words'), (2, 'en', 'other words')")
    client.attach("memos", table="memos", text="body", payload="lang", store_text="chunk")
    settle(db, worker)
    client.attach("memos", store_text="page")  # the points have the former key yet
    with TestClient(create_app(settings.model_copy(update={"search_open": True}))) as api:
        for route, asked in (("/search", {"query": "x", "limit": 1}), ("/similar", {"item_id": "2"})):
            (hit,) = hits(api, route, source="memos", **asked)
            assert hit["payload"] == {"lang": "en"}
            answer = api.post(route, json={"source": "memos", **asked}, headers=KEY)
            assert answer.json()["hits"][0]["payload"].keys() == {"lang", "chunk"}


def test_the_python_api_searches_alike(client: Client, db: Connection, pages: None) -> None:
    found = client.search(["notes", "pages"], "note 7", limit=2, text=True)
    best = found.hits[0]
    assert (best.source, best.item_id, best.text, best.changed) == ("notes", "7", "note 7", False)
    (first,) = client.search("notes", "note 7", limit=1).hits
    assert (first.source, first.text, first.changed) == ("notes", None, None)
    assert [hit.item_id for hit in client.search("notes", "note 7", limit=1, offset=1).hits] != ["7"]
    assert "7" not in [hit.item_id for hit in client.similar("notes", "7", limit=100).hits]
    with pytest.raises(reindexer.NoSuchItem, match="it is not indexed yet"):
        client.similar("notes", "13")
    for wrong, words in (({"offset": -1}, "offset is -1; use 0 or more"), ({"min_score": float("nan")}, "out of range"),
                         ({"group": "row"}, "use item or chunk"), ({"limit": 100, "offset": 901}, "1,001 together")):  # fmt: skip
        with pytest.raises(reindexer.UnfitRequest, match=words):
            client.search("notes", "x", **wrong)
    with pytest.raises(reindexer.UnfitRequest, match="of 0 sources; name 1 to 16"):
        client.search([], "x")


def test_the_commands_search_alike(here: Callable[..., Done], env: Mapping[str, str], pages: None) -> None:
    def lines(*arguments: str) -> list[list[str]]:
        done = here(*arguments, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\t") for line in done.stdout.splitlines()]

    whole = lines("search", "notes", "note 7", "--limit", "12")
    assert lines("search", "notes", "note 7", "--limit", "3", "--offset", "2") == whole[2:5]
    assert lines("search", "notes", "note 7", "--min-score", "0.9") == [["1.000", "7", "0", "lang=en, stars=7"]]
    chunks = lines("search", "pages", PARAGRAPHS[1], "--group", "chunk", "--text", "--filter", "lang=en")
    assert chunks[0] == ["1.000", "bees", "1", "lang=en", PARAGRAPHS[1]]
    fused = lines("search", "notes", "note 7", "--also", "pages", "--limit", "2")
    assert fused[0] == ["0.016", "notes", "7", "0", "lang=en, stars=7"]
    assert fused[1][1] == "pages"
    alike = lines("similar", "notes", "7", "--limit", "100", "--filter", "stars<=3")
    assert sorted(line[1] for line in alike) == ["1", "2", "3"]
    told = json.loads(here("similar", "notes", "7", "--limit", "1", "--text", "--json", env=env).stdout)["hits"]
    assert [*told[0]] == ["source", "item_id", "score", "chunk", "span", "payload", "text", "changed"]


WRONG = [
    (("similar", "notes", "13"), 1, "the index holds nothing of this item of 'notes'"),
    (("similar", "notes", "seven"), 1, "the index holds nothing of this item of 'notes'"),
    (("similar", "note", "7"), 2, "there is no source 'note'; attached: context_items, notes, pages"),
    (("search", "notes", "x", "--also", "page"), 2, "there is no source 'page'"),
    (("search", "notes", "x", "--also", "pages", "--min-score", "1"), 2, "min_score is for one source"),
    (("search", "notes", "x", "--also", "pages", "--filter", "stars=1"), 2, "source 'pages': the filter's 'stars'"),
    (("search", "notes", "x", "--offset", "950", "--limit", "60"), 2, "offset and limit are 1,010 together"),
    (("search", "notes", "x", "--group", "chunks"), 2, "'chunks' is not one of 'item', 'chunk'"),
]


def test_a_search_that_can_not_be_is_one_line(here: Callable[..., Done], env: Mapping[str, str], pages: None) -> None:
    for arguments, code, line in WRONG:
        done = here(*arguments, env=env)
        assert line in done.stderr
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), arguments
