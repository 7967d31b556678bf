"""Generations as users meet them: by the command line, over HTTP and by `Client`, beside running processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import httpx2
import pytest
from qdrant_client import models

from reindexer import Client, GenerationConflict, Settings
from reindexer.postgres.connect import Connection
from reindexer.sources.store import set_problem
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import fill, idle, insert
from tests.support.generations import NAME, promote_second, settle
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

KEY = {"Authorization": "Bearer test-admin-key"}


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


def test_rebuild_promote_roll_back_and_prune_over_http_beside_running_processes(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    processes.listener()
    processes.worker()
    _, url = processes.api()
    fill(db)
    eventually(lambda: idle(db))
    with httpx2.Client(base_url=url, headers=KEY, timeout=60) as http:
        ours = f"/admin/generations/{NAME}"
        started = http.post(f"{ours}/rebuild", json={})
        assert (started.status_code, started.json()["generation"]) == (202, 2)
        eventually(lambda: [each["state"] for each in http.get(ours).json()["generations"]] == ["active", "ready"])
        promoted = http.post(f"{ours}/promote", json={"wait_s": 20})
        assert (promoted.status_code, promoted.json()["collection"]) == (200, f"{NAME}__g2")
        aliases = {each.alias_name: each.collection_name for each in index.client.get_aliases().aliases}
        assert aliases[NAME] == f"{NAME}__g2"
        assert http.post(f"{ours}/rollback", json={"wait_s": 20}).json()["generation"] == 1
        assert http.post(f"{ours}/prune", json={"generation": 1}).status_code == 409
        assert http.post(f"{ours}/prune", json={}).json() == {"dropped": [2]}
        eventually(
            lambda: [each.name for each in index.client.get_collections().collections] == [f"{NAME}__g1"], within=40
        )
        assert http.post(f"{ours}/cancel").status_code == 409
        assert http.get("/admin/generations/nothing").status_code == 404


def test_a_client_gives_the_vector_and_the_collection_that_belong_together(
    client: Client, db: Connection, worker: Worker
) -> None:
    fill(db)
    settle(db, worker)
    assert client.rebuild(NAME).kind == "rebuild"
    settle(db, worker)
    before = client.embed_query(NAME, "tea")
    assert (before.collection, len(before.vector)) == (f"{NAME}__g1", len(vector_of("tea")))
    assert client.promote(NAME, wait_s=5).former == 1
    assert client.embed_query(NAME, "tea").collection == f"{NAME}__g2"
    assert [(each.state, each.collection) for each in client.generations(NAME)] == [
        ("standby", f"{NAME}__g1"), ("active", f"{NAME}__g2"),
    ]  # fmt: skip
    status = client.status().sources[NAME]
    assert (status.generation, [(each.number, each.state) for each in status.beside]) == (2, [(1, "standby")])
    with pytest.raises(GenerationConflict, match=r"no rebuild of .* is open"):
        client.cancel_rebuild(NAME)


def test_a_search_that_meets_a_dropped_generation_uses_the_one_that_searches_use(
    client: Client, db: Connection, worker: Worker, index: IndexReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resolved the source, then the source was promoted and the former generation was dropped."""
    item = insert(db, "tea")
    settle(db, worker)
    client.rebuild(NAME)
    settle(db, worker)
    resolve, done = client._searchable, list[object]()

    def resolves(source: str) -> object:
        there = resolve(source)
        if not done:
            done.append(client.promote(source, wait_s=5))
            client.prune(source)
            index.client.delete_collection(f"{NAME}__g1")
        return there

    monkeypatch.setattr(client, "_searchable", resolves)
    assert [hit.item_id for hit in client.search(NAME, "tea").hits] == [item]


def test_similar_meets_a_dropped_generation_as_a_search_does_and_asks_the_one_that_searches_use(
    client: Client, db: Connection, worker: Worker, index: IndexReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = insert(db, "tea"), insert(db, "coffee")
    settle(db, worker)
    client.rebuild(NAME)
    settle(db, worker)
    resolve, done = client._searchable, list[object]()

    def resolves(source: str) -> object:
        there = resolve(source)
        if not done:
            done.append(client.promote(source, wait_s=5))
            client.prune(source)
            index.client.delete_collection(f"{NAME}__g1")
        return there

    monkeypatch.setattr(client, "_searchable", resolves)
    assert [hit.item_id for hit in client.similar(NAME, one).hits] == [other]


def test_similar_asks_one_generation_for_the_item_and_for_what_is_like_it(
    client: Client, db: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    """Wherever the alias is: vectors of the former model have another length."""
    one, other = insert(db, "tea"), insert(db, "coffee")
    settle(db, worker)
    promote_second(db, settings, worker)
    alias = models.CreateAlias(collection_name=f"{NAME}__g1", alias_name=NAME)
    index.client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    assert [hit.item_id for hit in client.similar(NAME, one).hits] == [other]


def test_detach_drops_the_collections_of_all_generations(
    client: Client, db: Connection, worker: Worker, index: IndexReader
) -> None:
    fill(db)
    settle(db, worker)
    client.rebuild(NAME)
    settle(db, worker)
    assert client.detach(NAME, drop_collection=True).dropped
    assert index.client.get_collections().collections == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("promote", NAME), "no generation of 'context_items' is ready; make one: reindexer rebuild context_items"),
        (("rollback", NAME), "no former generation of 'context_items' is kept; there is nothing to go back to"),
        (("prune", NAME), "no generation of 'context_items' is kept beside the one that searches use"),
        (("prune", NAME, "--generation", "1"), "generation 1 of 'context_items' is the one that searches use"),
        (("prune", NAME, "--generation", "7"), "there is no generation 7 of 'context_items'"),
        (("rebuild", NAME, "--cancel"), "no rebuild of 'context_items' is open"),
        (("rebuild", NAME, "--pause"), "no rebuild of 'context_items' is open"),
        (("rebuild", NAME, "--watch", "--detach"), "--watch goes alone: it is about the rebuild that is open"),
        (("rebuild", NAME, "--profile", "large"), "there is no sources file here"),
        (("rebuild", "nothing"), "there is no source 'nothing'; attached: context_items"),
        (("generations", "nothing"), "there is no source 'nothing'; attached: context_items"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(
    arguments: tuple[str, ...], told: str, here: Callable[..., Done], env: Mapping[str, str], db: Connection
) -> None:
    done = here(*arguments, env=env)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert db.execute("SELECT number, state FROM reindexer.generation").fetchall() == [(1, "active")]


def test_a_model_that_the_provider_refuses_is_told_before_anything_is_changed(
    here: Callable[..., Done], env: Mapping[str, str], db: Connection, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(404, "model_not_found") if call.body["model"] == "gone" else None
    done = here("rebuild", NAME, env={**env, "REINDEXER_EMBEDDING_MODEL": "gone"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.rstrip().endswith("nothing was changed")
    assert db.execute("SELECT number, state FROM reindexer.generation").fetchall() == [(1, "active")]


def test_readyz_names_a_generation_that_no_search_uses_apart(
    db: Connection, worker: Worker, client: Client, processes: Processes
) -> None:
    fill(db)
    settle(db, worker)
    client.rebuild(NAME)
    db.execute("UPDATE reindexer.source SET paused = true")  # so that no worker finds it well
    set_problem(db, NAME, 2, "its provider is gone")
    processes.listener()
    processes.worker()
    _, url = processes.api()

    def checks() -> dict[str, str]:
        return dict(httpx2.get(f"{url}/readyz", timeout=10).json()["checks"])

    eventually(lambda: checks()["workers"] == "ok")
    told = "ok, but generation 2 of context_items can't be worked on, and no search uses it"
    assert checks()["sources"] == "ok"
    assert checks()["generations"] == told
