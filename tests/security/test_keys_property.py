"""Whatever a request by a search key says, it returns rows of that key's filter alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as effort
from hypothesis import strategies as st

from api.main import create_app
from reindexer import api_keys
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import Flow
from tests.support.index_reader import IndexReader
from tests.support.tenants import PAYLOAD, index_tenants

T = TypeVar("T")

FORCED: Mapping[str, tuple[list[str], str]] = {
    "acme": (["tenant=acme"], "tenant = 'acme'"),
    "globex": (["tenant=globex"], "tenant = 'globex'"),
    "nobody": (["tenant=hooli"], "false"),
    "two": (["tenant=initech", "lang=nl"], "tenant = 'initech' AND lang = 'nl'"),
    "stars": (["stars=3"], "stars = 3"),
    "tags": (["tags=x1"], "'x1' = ANY (tags)"),
    "meta": (["meta.level=2"], "meta ->> 'level' = '2'"),
    "made": (["made=2026-01-03"], "made = '2026-01-03'"),
}
"""Keys: the filter of each, and the same in SQL."""

VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "tenant": st.sampled_from(["acme", "globex", "initech", "hooli", "", "*", "acme' OR true"]),
    "lang": st.sampled_from(["en", "nl", "de"]),
    "stars": st.integers(-1, 6),
    "owner": st.sampled_from([f"6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0{n}" for n in range(10)]),
    "made": st.sampled_from([f"2026-01-0{n}" for n in range(1, 9)]),
    "tags": st.sampled_from(["acme", "x0", "x1", "x2"]),
    "meta.tenant": st.sampled_from(["acme", "globex"]),
    "meta.level": st.integers(0, 3),
    "_reindexer.item_id": st.sampled_from(["1", "2", "3"]),
    "id": st.integers(1, 40),
}


def conditions(column: str) -> st.SearchStrategy[Any]:
    """Of every form, fitting and unfitting ones."""
    value = VALUES[column]
    bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte", "not", "should", "or"]), value, max_size=3)
    return st.one_of(
        value, st.lists(value, max_size=4), st.none(), bounds, value.map(lambda each: {"not": each}),
        st.lists(value, min_size=1, max_size=3).map(lambda each: {"not": each}), st.just({"not": None}),
    )  # fmt: skip


FILTERS = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda column: st.tuples(st.just(column), conditions(column))), max_size=4
).map(dict)

MORE: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["sources", "alias", "role", "must", "should", "generation", "collection", "offset"]),
    st.sampled_from(["others", 1, ["notes", "others"], {}, None]),
    max_size=1,
)

REQUESTS = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["notes"] * 8 + ["others", "context_items", "nothing", "notes__g1", "Notes"]),
        "query": st.sampled_from(["tea", "tea number 7", "tea of others 1", "acme", "number 8", "?!"]),
        "limit": st.sampled_from([1, 10, 100] * 3 + [101]),
    },
    optional={
        "filter": FILTERS, "offset": st.sampled_from([0, 1, 7, 30]), "group": st.sampled_from(["item", "chunk"]),
        "mode": st.sampled_from(["meaning", "keywords", "hybrid"]), "text": st.booleans(),
        "min_score": st.sampled_from([None] * 6 + [-1, 0.2]),
    },
)  # fmt: skip
LIKE: st.SearchStrategy[str] = st.one_of(
    st.integers(1, 40).map(str), st.integers(1, 40).map(str), st.sampled_from(["41", "notes__g1"])
)
"""Of its own rows, of foreign ones, and of none."""


def now_and_then(some: st.SearchStrategy[T], otherwise: T | None) -> st.SearchStrategy[T | None]:
    """One of these in six. (`one_of` would count each alternative within `some` by itself.)"""
    return st.sampled_from([True, *[False] * 5]).flatmap(lambda is_now: some if is_now else st.just(otherwise))


@dataclass(frozen=True, slots=True)
class Tenants:
    """An API, its keys, and the rows that each may see."""

    client: TestClient
    keys: Mapping[str, str]
    may_see: Mapping[str, frozenset[str]]

    def probe(self, name: str, header: str, request: Mapping[str, Any]) -> int:
        """One request; returns its status after a look at what it returned."""
        route = "/similar" if "item_id" in request else "/search"
        key = self.keys[name]
        headers = {header: f"Bearer {key}" if header == "Authorization" else key}
        answer = self.client.post(route, headers=headers, json=request)
        if answer.status_code == 200:
            hits = {hit["item_id"] for hit in answer.json()["hits"]}
            assert (request.get("sources") or [request.get("source")]) == ["notes"]
            assert {hit["source"] for hit in answer.json()["hits"]} <= {"notes"}
            assert hits <= self.may_see[name], (name, request)
            assert "item_id" not in request or request["item_id"] in self.may_see[name]
        else:
            assert answer.status_code in (404, 422), answer.text
        return int(answer.status_code)


@pytest.mark.parametrize(
    "examples", [150, pytest.param(5000, marks=[pytest.mark.long, pytest.mark.timeout(900)])], ids=["some", "many"]
)
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
def test_no_request_by_a_key_with_a_filter_returns_a_foreign_row(
    settings: Settings, db: Connection, worker: Worker, index: IndexReader, examples: int, is_open: bool
) -> None:
    index_tenants(db, worker)
    assert {column.partition(".")[0] for column in VALUES} - {"_reindexer", "id"} == set(PAYLOAD)
    keys = {
        name: api_keys.create(db, name, who="test", role="search", source="notes", where=where).key
        for name, (where, _) in FORCED.items()
    }
    may_see = {
        name: frozenset(row_id for (row_id,) in db.execute(f"SELECT id::text FROM notes WHERE {sql}".encode()))
        for name, (_, sql) in FORCED.items()
    }
    codes: Counter[int] = Counter()
    with TestClient(create_app(settings.model_copy(update={"search_open": is_open}))) as client:
        tenants = Tenants(client, keys, may_see)
        for name, key in keys.items():  # each sees all of its own
            everything = {"source": "notes", "query": "tea", "limit": 100}
            answer = client.post("/search", headers={"X-API-Key": key}, json=everything)
            assert {hit["item_id"] for hit in answer.json()["hits"]} == may_see[name], name

        @seed(1 if examples < 1000 else 2)
        @effort(max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(
            name=st.sampled_from(sorted(keys)),
            header=st.sampled_from(["Authorization", "X-API-Key"]),
            request=REQUESTS,
            more=now_and_then(MORE, {}),
            like=now_and_then(LIKE, None),
            several=st.sampled_from([None] * 12 + [["notes"], ["notes"], ["notes", "others"], ["others"]]),
        )
        def probe(
            name: str, header: str, request: dict[str, Any], more: dict[str, Any] | None, like: str | None,
            several: list[str] | None,
        ) -> None:  # fmt: skip
            if like is not None:
                request = {key: value for key, value in request.items() if key not in ("query", "mode")}
                request |= {"item_id": like}
            elif several is not None:
                request = {key: value for key, value in request.items() if key != "source"} | {"sources": several}
            codes[tenants.probe(name, header, request | (more or {}))] += 1

        probe()
    assert codes[200] > examples // 5, codes
    assert codes[404] > 0, codes


def test_scores_under_a_keys_filter_do_not_depend_on_foreign_rows(
    settings: Settings, db: Connection, worker: Worker, index: IndexReader
) -> None:
    """How rare a word is counts among the key's own rows. Else a score would tell how many others hold it."""
    index_tenants(db, worker)
    key = api_keys.create(db, "acme", who="test", role="search", source="notes", where=["tenant=acme"]).key
    asked = [
        {"source": "notes", "query": query, "mode": mode, "limit": 100, "group": group}
        for query in ("tea", "tea number 4", "harbour") for mode in ("meaning", "keywords", "hybrid")
        for group in ("item", "chunk")
    ]  # fmt: skip

    with TestClient(create_app(settings), headers={"X-API-Key": key}) as client:

        def scores() -> list[dict[str, float]]:
            answers = [client.post("/search", json=each) for each in asked]
            assert {answer.status_code for answer in answers} == {200}
            return [{hit["item_id"]: hit["score"] for hit in answer.json()["hits"]} for answer in answers]

        before = scores()
        assert sum(len(each) > 1 for each in before) >= 10
        db.execute(
            "INSERT INTO notes (id, tenant, body) SELECT n, 'globex', 'tea 4 number harbour' FROM generate_series(100, 160) n"
        )
        eventually(Flow(db, worker).settles, within=30)
        for was, now, request in zip(before, scores(), asked, strict=True):
            assert now == pytest.approx(was), request
