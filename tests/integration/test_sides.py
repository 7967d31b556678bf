"""Queries and documents that a model embeds differently: each gets its own prefix or input type, and nothing mixes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from reindexer import rebuilding
from reindexer.core.errors import OtherVectors, UsageError
from reindexer.core.items import point_id
from reindexer.core.profile import Profile
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.generations import promotion
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import estimate
from reindexer.testing.provider import Call, FakeProvider, Reply, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, status, work
from tests.support.generations import NAME, SOON, settle
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.reconciling import differences
from tests.support.sides import BY_PREFIX, BY_TYPE, DOCUMENT, QUERY, by_prefix, by_type

Searching = Callable[[str], list[dict[str, Any]]]
TEXTS = ("a bicycle", "green tea", "a long way home")


@pytest.fixture
def ids(db: Connection) -> list[str]:
    """Of three rows."""
    return [insert(db, text) for text in TEXTS]


@pytest.fixture
def hits(here: Callable[..., Done], env: Mapping[str, str]) -> Searching:
    """Searches by the command."""

    def search(query: str) -> list[dict[str, Any]]:
        done = here("search", NAME, query, "--json", env=env)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["hits"])

    return search


@pytest.fixture
def elsewhere() -> Iterator[FakeProvider]:
    """Another address of the provider."""
    running = FakeProvider()
    yield running
    running.close()


def attached(db: Connection, worker: Worker, profile: Profile, **more: Any) -> Source:
    source = replace(CONTEXT_ITEMS, profile=profile, **more)
    with changing_triggers(db):
        attach(db, source)
    settle(db, worker)
    return source


def exact(hit: dict[str, Any]) -> bool:
    return bool(hit["score"] == pytest.approx(1.0, abs=1e-4))


def vector(index: IndexReader, generation: int, item_id: str) -> Any:
    (found,) = index.client.retrieve(f"{NAME}__g{generation}", [point_id(NAME, item_id, 0)], with_vectors=True)
    return found.vector


def like(text: str) -> Any:
    return pytest.approx(vector_of(text).tolist(), abs=1e-4)


def test_documents_and_queries_get_their_own_prefix_and_neither_is_part_of_a_span(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str], hits: Searching
) -> None:
    by_prefix(provider)
    attached(db, worker, BY_PREFIX)
    assert sorted(provider.inputs) == sorted(f"{DOCUMENT}{text}" for text in TEXTS)
    assert index.holds(ids[0], vector_of(f"{DOCUMENT}{TEXTS[0]}"))
    assert (index.payload(ids[0]) or {})["_reindexer"]["span"] == [0, len(TEXTS[0])]
    provider.calls.clear()
    best, *_ = hits("green tea")
    assert provider.inputs == [f"{QUERY}green tea"]
    assert (best["item_id"], exact(best)) == (ids[1], True)


def test_each_request_says_the_input_type_of_its_side(
    db: Connection, worker: Worker, provider: FakeProvider, ids: list[str], hits: Searching
) -> None:
    by_type(provider)
    attached(db, worker, BY_TYPE)
    assert {call.body["input_type"] for call in provider.calls} == {"document"}
    provider.calls.clear()
    assert exact(hits("green tea")[0])
    assert [call.body["input_type"] for call in provider.calls] == ["query"]


def test_a_server_that_wants_an_input_type_is_not_searched_for_another_form_of_request(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str]
) -> None:
    by_type(provider)
    work(db, worker)
    told = state_of_everything(db).sources[NAME].problem or ""
    assert told.endswith(
        "the embedding provider answered 400: it wants an `input_type`; set query_input_type and document_input_type "
        "in the source's profile"
    )
    assert len(provider.calls) == 2, "the texts, and a harmless one"


def test_an_input_type_that_a_server_does_not_take_is_never_left_out(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str]
) -> None:
    provider.behave = lambda call: error(400) if "input_type" in call.body else None
    with changing_triggers(db):
        attach(db, replace(CONTEXT_ITEMS, profile=BY_TYPE))
    work(db, worker)
    assert all(call.body["input_type"] == "document" for call in provider.calls)
    assert index.count() == 0
    assert "check OPENAI_API_KEY" in (state_of_everything(db).sources[NAME].problem or "")


def test_a_query_side_changes_in_place_and_a_document_side_does_not(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str], hits: Searching
) -> None:
    attached(db, worker, Profile())
    provider.calls.clear()
    attached(db, worker, Profile(query_prefix="find: ", query_input_type="query"))
    assert provider.calls == []
    hits("green tea")
    assert [(call.inputs, call.body["input_type"]) for call in provider.calls] == [(("find: green tea",), "query")]
    for profile, told in (
        (BY_PREFIX, "document_prefix 'search_document: '"),
        (BY_TYPE, "document_input_type 'document'"),
    ):
        with pytest.raises(OtherVectors, match=f"the profile says {told}: `reindexer rebuild {NAME}`"):
            attached(db, worker, profile)


def test_a_document_side_is_not_taken_away_in_place(
    db: Connection, worker: Worker, index: IndexReader, ids: list[str]
) -> None:
    attached(db, worker, BY_PREFIX)
    with pytest.raises(OtherVectors, match="the profile says no document_prefix any more"):
        attached(db, worker, Profile())


@pytest.mark.parametrize("profile", [BY_PREFIX, BY_TYPE], ids=["prefix", "type"])
@pytest.mark.first(1)
def test_generations_of_one_model_with_other_document_sides_share_no_vector_and_are_each_asked_in_their_own_way(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str],
    hits: Searching, profile: Profile,
) -> None:  # fmt: skip
    def answer(call: Call) -> Reply | None:
        texts = tuple(each.replace(QUERY, DOCUMENT) for each in call.inputs)
        typed = "typed " if "input_type" in call.body else ""
        return provider.vectors(replace(call, inputs=tuple(f"{typed}{each}" for each in texts)))

    def sided(text: str) -> str:
        return f"typed {text}" if profile is BY_TYPE else f"{DOCUMENT}{text}"

    provider.behave = answer
    attached(db, worker, Profile())
    wanted = replace(rebuilding.wanted(settings, db, NAME), profile=profile)
    provider.calls.clear()
    rebuilding.rebuild_as(settings, db, worker.index, wanted, who="test")
    settle(db, worker)
    assert len([text for text in provider.inputs if text.removeprefix(DOCUMENT) in TEXTS]) == len(TEXTS)
    assert (vector(index, 1, ids[1]), vector(index, 2, ids[1])) == (like("green tea"), like(sided("green tea")))
    assert exact(hits("green tea")[0])
    promotion.promote(db, NAME, who="test", terms=SOON)
    assert exact(hits("green tea")[0])
    db.execute("UPDATE context_items SET content = 'black tea' WHERE id = %s", [ids[1]])
    settle(db, worker)
    assert (vector(index, 1, ids[1]), vector(index, 2, ids[1])) == (like("black tea"), like(sided("black tea")))
    assert exact(hits("black tea")[0])
    assert differences(db, worker) == {}
    promotion.rollback(db, NAME, who="test", terms=SOON)
    assert exact(hits("black tea")[0])
    assert differences(db, worker) == {}


def test_a_rebuild_by_an_input_type_that_the_provider_refuses_is_refused(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str]
) -> None:
    attached(db, worker, Profile())
    provider.behave = lambda call: error(400) if call.body.get("input_type") == "wrong" else None
    wanted = replace(rebuilding.wanted(settings, db, NAME), profile=replace(BY_TYPE, query_input_type="wrong"))
    with pytest.raises(UsageError, match="nothing was changed"):
        rebuilding.rebuild_as(settings, db, worker.index, wanted, who="test")


def test_another_address_proves_itself_by_documents_before_a_query_is_asked_there(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, elsewhere: FakeProvider,
    ids: list[str], here: Callable[..., Done], env: Mapping[str, str],
) -> None:  # fmt: skip
    profile = replace(BY_TYPE, document_prefix=DOCUMENT, query_prefix=QUERY)
    for each in (provider, elsewhere):
        each.behave = typed(each)
    attached(db, worker, profile)
    done = here("search", NAME, "green tea", "--json", env={**env, "OPENAI_BASE_URL": elsewhere.url})
    assert done.returncode == 0, done.stderr
    asked = [(call.body["input_type"], sorted(call.inputs)) for call in elsewhere.calls]
    documents = sorted(f"{DOCUMENT}{text}" for text in TEXTS)
    assert asked == [("document", documents), ("query", [f"{QUERY}green tea"])]


def typed(provider: FakeProvider) -> Callable[[Call], Reply]:
    """Another vector for each input type."""
    return lambda call: provider.vectors(
        replace(call, inputs=tuple(f"{call.body.get('input_type')} {each}" for each in call.inputs))
    )


def test_another_address_is_not_judged_by_vectors_of_another_input_type(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider,
    elsewhere: FakeProvider, ids: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Generation 1 has them, of the same model, and generation 2 has none yet."""
    for each in (provider, elsewhere):
        each.behave = typed(each)
    attached(db, worker, Profile())
    wanted = replace(rebuilding.wanted(settings, db, NAME), profile=BY_TYPE)
    rebuilding.rebuild_as(settings, db, worker.index, wanted, who="test")
    moved = make_worker(settings.model_copy(update={"openai_base_url": elsewhere.url}), None)
    try:
        settle(db, moved)
    finally:
        moved.close()
    assert vector(index, 2, ids[1]) == like("document green tea")


def test_a_prefix_that_leaves_no_room_for_a_text_is_the_sources_problem(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str]
) -> None:
    prefix = "x y " * 3_000
    with changing_triggers(db):
        attach(db, replace(CONTEXT_ITEMS, profile=Profile(document_prefix=prefix)))
    work(db, worker)
    told = state_of_everything(db).sources[NAME].problem or ""
    assert "its profile's document_prefix leaves no room for a text: an input may have 8192 tokens" in told
    assert provider.calls == []


def test_what_the_provider_finds_too_long_with_its_prefix_is_cut_smaller_until_it_takes_it(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    prefix = "many words in front of each text " * 20
    words = "This model's maximum context length is 8192 tokens"
    provider.behave = lambda call: (
        Reply(400, {"error": {"message": words}}) if any(len(text) > 2_000 for text in call.inputs) else None
    )
    item_id = insert(db, "long words " * 500)
    attached(db, worker, Profile(document_prefix=prefix))
    assert status(db, item_id) == ("COMPLETED", None)
    facts = [(index.payload(item_id, chunk) or {})["_reindexer"] for chunk in range(index.count())]
    assert " ".join(("long words " * 500)[slice(*each["span"])] for each in facts) == ("long words " * 500).strip()


def test_a_comparison_asks_each_generation_in_its_own_way(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader, provider: FakeProvider, ids: list[str],
    here: Callable[..., Done], env: Mapping[str, str],
) -> None:  # fmt: skip
    by_prefix(provider)
    attached(db, worker, Profile())
    wanted = replace(rebuilding.wanted(settings, db, NAME), profile=BY_PREFIX)
    rebuilding.rebuild_as(settings, db, worker.index, wanted, who="test")
    settle(db, worker)
    provider.calls.clear()
    done = here("compare", NAME, "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert len(provider.calls) == 2
    plain, prefixed = (call.inputs for call in provider.calls)
    assert prefixed == tuple(f"{QUERY}{text}" for text in plain)
    assert json.loads(done.stdout)["overlap_exact"] == 1.0


def test_an_estimate_counts_the_prefix_with_each_chunk(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    source = replace(CONTEXT_ITEMS, profile=BY_PREFIX, chunk_tokens=32)
    insert(db, " ".join(f"Sentence number {n} is short." for n in range(60)))
    found = estimate(db, source, embedding_spec_of(source, worker.embedder_of(source)), len)
    attached(db, worker, BY_PREFIX, chunk_tokens=32)
    assert found.tokens == found.changed_tokens == sum(map(len, provider.inputs))


def test_a_profile_that_says_nothing_of_a_known_model_is_told_of_in_one_line(
    db: Connection, index: IndexReader, here: Callable[..., Done], env: Mapping[str, str], tmp_path: Path
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    file = tmp_path / "my.toml"
    file.write_text(
        '[sources.notes]\ntable = "notes"\ntext = ["body"]\nprofile = "p"\n[profiles.p]\nmodel = "nomic-embed-text"\n'
    )
    settings = {**env, "REINDEXER_SOURCES": str(file)}
    told = (
        "source 'notes': nomic-embed-text embeds queries and documents differently, and wants document_prefix = "
        '"search_document: ", query_prefix = "search_query: " in its profile; docs/providers.md, Queries and documents'
    )
    assert json.loads(here("plan", "--json", env=settings).stdout)["notes"] == [told]
    done = here("migrate", env=settings)
    assert (done.returncode, done.stderr) == (0, f"reindexer: note: {told}\n")
    done = here("attach", "notes", "--profile", "p", env=settings)
    assert (done.returncode, done.stderr) == (0, f"reindexer: note: {told}\n")


FILE = """
[sources.notes]
table = "notes"
text = ["body"]
profile = "plain"

[profiles.plain]

[profiles.sided]
document_prefix = "search_document: "
query_prefix = "search_query: "
"""


@pytest.mark.long
def test_a_running_system_goes_to_another_prefix_and_back_and_each_search_asks_by_the_prefix_of_what_it_searches(
    db: Connection, index: IndexReader, provider: FakeProvider, processes: Processes, here: Callable[..., Done],
    env: Mapping[str, str], tmp_path: Path,
) -> None:  # fmt: skip
    by_prefix(provider)
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'a bicycle'), (2, 'green tea')")
    (file := tmp_path / "my.toml").write_text(FILE)
    settings = {**env, "REINDEXER_SOURCES": str(file)}
    processes.listener()
    processes.worker(pool="solo", concurrency=1)
    _, api = processes.api()

    def command(*arguments: str) -> None:
        done = here(*arguments, env=settings)
        assert done.returncode == 0, done.stderr

    def found(query: str) -> bool:
        answer = httpx.post(
            f"{api}/search",
            json={"source": "notes", "query": query},
            headers={"X-API-Key": "test-admin-key"},
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        return any(exact(hit) for hit in answer.json()["hits"])

    command("migrate")
    eventually(lambda: found("green tea"), within=30)
    command("rebuild", "notes", "--profile", "sided", "--promote-when-ready")
    assert found("green tea")
    assert provider.inputs[-1] == f"{QUERY}green tea"
    db.execute("UPDATE notes SET body = 'black tea' WHERE id = 2")
    eventually(lambda: found("black tea"), within=30)
    command("rollback", "notes")
    eventually(lambda: found("black tea"), within=30)  # an edit of the last second may follow
    assert provider.inputs[-1] == "black tea"
    stored = {(text, text.startswith(DOCUMENT)) for text in provider.inputs if not text.startswith(QUERY)}
    assert {(f"{DOCUMENT}black tea", True), ("black tea", False)} <= stored
