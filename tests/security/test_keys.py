"""Keys of the database: what each role may do, how soon one ends, and that a search key sees its rows alone."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import httpx2
import pytest
from fastapi.testclient import TestClient
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from structlog.testing import capture_logs

from api.key_cache import KEEP_FAILURE_S, KEEP_S, MAX_WAITING, KeyCache
from api.main import create_app
from api.rights import RIGHTS
from reindexer import api_keys, rebuilding
from reindexer.core.api_key import ROLES, key_hash, key_of
from reindexer.core.errors import TransientError, UsageError
from reindexer.generations import lifecycle, promotion
from reindexer.generations.promotion import Terms
from reindexer.postgres.connect import Connection, Postgres
from reindexer.postgres.locks import changing_triggers
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.docs import table_rows
from tests.support.flow import Flow
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes
from tests.support.tenants import attach_tenants, index_tenants, rows_of

ADMIN = {"X-API-Key": "test-admin-key"}
OPEN = {"GET /healthz", "GET /readyz", "GET /metrics"}

Search = Callable[..., httpx2.Response]


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def notes(db: Connection, worker: Worker, index: IndexReader) -> Connection:
    """The tenants' rows, indexed."""
    index_tenants(db, worker)
    return db


def make(db: Connection, name: str = "k", **what: Any) -> str:
    return api_keys.create(db, name, who="test", **{"role": "search", **what}).key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def post(client: TestClient, key: str, **body: Any) -> httpx2.Response:
    return client.post("/search", headers=bearer(key), json={"source": "notes", "query": "tea", "limit": 100, **body})


def found(answer: httpx2.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {hit["item_id"] for hit in answer.json()["hits"]}


def operations(client: TestClient) -> list[tuple[str, str]]:
    """(method, path as it is described) of every route."""
    paths = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_each_route_is_decided_for_each_role_and_does_as_it_is_decided(client: TestClient, db: Connection) -> None:
    routes = {f"{method} {path}" for method, path in operations(client)}
    assert routes - {"GET /healthz", "GET /readyz"} == RIGHTS.keys()
    keys = {role: make(db, role, role=role) for role in ROLES}
    for operation, roles in RIGHTS.items():
        if operation in OPEN:
            continue
        method, path = operation.split()
        for role, key in keys.items():
            answer = client.request(
                method, re.sub(r"\{[^}]*\}", "1", path), headers={**bearer(key), "Content-Type": "application/json"},
                content=b"[]",
            )  # fmt: skip
            assert answer.status_code != 401, (operation, role)
            assert (answer.status_code != 403) == (role in roles), (operation, role, answer.text)


def test_the_document_says_the_same_of_each_route(client: TestClient) -> None:
    lines = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("### What a key allows")[2]
    told = {row[0]: row[1] for row in table_rows(lines.partition("\n### ")[0].partition("\n## ")[0])}
    assert told == {
        operation: ", ".join(role for role in ROLES if role in roles) for operation, roles in RIGHTS.items()
    }


def test_closed_metrics_are_for_those_who_operate(settings: Settings, db: Connection, index: IndexReader) -> None:
    keys = {role: make(db, role, role=role) for role in ROLES}
    with TestClient(create_app(settings.model_copy(update={"metrics_open": False}))) as client:
        codes = {role: client.get("/metrics", headers=bearer(key)).status_code for role, key in keys.items()}
        assert codes == {"search": 403, "operate": 200, "admin": 200}
        assert client.get("/metrics").status_code == 401
    with TestClient(create_app(settings)) as client:
        assert client.get("/metrics", headers=bearer(keys["search"])).status_code == 200
        assert client.get("/metrics", headers=bearer("wrong")).status_code == 200


def test_a_condition_of_a_backfill_needs_the_role_admin(client: TestClient, db: Connection) -> None:
    """It is SQL, and reads whatever the API's database role may."""
    keys: dict[str, str] = {role: make(db, role, role=role) for role in ROLES}

    def start(role: str, **body: Any) -> int:
        answer = client.post("/admin/backfills", headers=bearer(keys[role]), json={"source": "context_items", **body})
        return int(answer.status_code)

    assert start("operate", where="true") == 403
    assert db.execute("SELECT FROM reindexer.run WHERE kind = 'backfill'").fetchall() == []
    assert start("operate", force=True) == 202
    db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
    assert start("admin", where="true") == 202


def test_a_search_key_finds_its_rows_alone(client: TestClient, notes: Connection) -> None:
    ours, all_rows = rows_of(notes, "acme"), {str(n) for n in range(1, 41)}
    key = make(notes, source="notes", where=["tenant=acme"])
    assert found(post(client, key)) == ours
    assert found(post(client, key, filter={"lang": "en"})) <= ours
    for wider in ({"tenant": "globex"}, {"tenant": ["acme", "globex"]}, {"tenant": None}, {"tenant": {"not": "acme"}}):
        assert found(post(client, key, filter=wider)) <= ours, wider
    assert found(post(client, make(notes, "all", source="notes"))) == all_rows
    assert found(post(client, "test-admin-key")) == all_rows


@pytest.mark.parametrize(
    ("word", "sql"),
    [
        ("stars=3", "stars = 3"),
        ("owner=6F1D8A1E-3F0B-5C55-9A52-7D1C0B1F6F03", "owner = '6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f03'"),
        ("made=2026-01-03", "made = '2026-01-03'"),
        ("tags=x1", "'x1' = ANY (tags)"),
        ("meta.level=2", "meta ->> 'level' = '2'"),
    ],
)
@pytest.mark.first(2)
def test_a_filter_is_on_a_column_of_any_kind(client: TestClient, notes: Connection, word: str, sql: str) -> None:
    wanted = {row_id for (row_id,) in notes.execute(f"SELECT id::text FROM notes WHERE {sql}".encode())}
    assert found(post(client, make(notes, source="notes", where=[word]))) == wanted
    assert 0 < len(wanted) < 40


def test_another_source_is_unknown_to_a_search_key_whether_it_is_there_or_not(
    client: TestClient, notes: Connection
) -> None:
    key = make(notes, source="notes")
    answers = [post(client, key, source=name) for name in ("others", "nothing", "context_items", "NOTES", "notes ", "")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert "others" not in answers[0].text
    assert client.post("/search", headers=bearer(key), json={"query": "tea"}).status_code == 404
    assert found(post(client, make(notes, "any"), source="others")) == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize(
    "change",
    [
        "attach without it",
        "ALTER TABLE notes DROP COLUMN tenant",
        "ALTER TABLE notes RENAME COLUMN tenant TO other",
        "ALTER TABLE notes ALTER COLUMN tenant TYPE int USING 1",
    ],
)
def test_access_closes_with_its_column(client: TestClient, notes: Connection, change: str) -> None:
    key = make(notes, source="notes", where=["tenant=acme"])
    assert found(post(client, key))
    if change == "attach without it":
        source = find_source(notes, "notes")
        payload = tuple(each for each in source.payload_columns if each != "tenant")
        with changing_triggers(notes):
            attach(notes, replace(source, payload_columns=payload, tenant_column=None))
    else:
        notes.execute(change.encode())
    answer = post(client, key)
    assert answer.status_code == 403, answer.text
    assert "this key finds nothing any more" in answer.json()["detail"]
    assert "acme" not in answer.text


def test_access_closes_while_its_source_is_detached(client: TestClient, notes: Connection) -> None:
    key = make(notes, source="notes")
    assert found(post(client, key))
    detach(notes, find_source(notes, "notes"), who="test", lease_s=1)
    assert post(client, key).status_code == 403


def test_an_open_search_is_narrowed_by_a_key_and_refuses_a_wrong_one(
    settings: Settings, notes: Connection, index: IndexReader
) -> None:
    key = make(notes, source="notes", where=["tenant=acme"])
    with TestClient(create_app(settings.model_copy(update={"search_open": True}))) as client:
        body = {"source": "notes", "query": "tea", "limit": 100}
        assert len(found(client.post("/search", json=body))) == 40
        assert found(post(client, key)) == rows_of(notes, "acme")
        assert found(client.post("/search", headers={"X-API-Key": key}, json=body)) == rows_of(notes, "acme")
        assert post(client, "wrong").status_code == 401
        assert post(client, key_of(b"x" * 32)).status_code == 401
        assert post(client, make(notes, "op", role="operate")).status_code == 403


def test_a_revoked_key_ends_in_every_process_within_five_seconds(processes: Processes, db: Connection) -> None:
    keys = {role: make(db, role, role=role) for role in ("operate", "admin")}
    urls = [processes.api()[1] for _ in range(2)]
    paths = {"operate": "/admin/status", "admin": "/context-items"}

    def codes() -> set[int]:
        return {
            httpx.get(url + paths[role], headers=bearer(key), timeout=10).status_code
            for url in urls for role, key in keys.items()
        }  # fmt: skip

    assert codes() == {200}
    until = time.monotonic() + 3
    while time.monotonic() < until:  # so that lookups of every age are kept
        assert codes() == {200}
        time.sleep(0.3)
    for role in keys:
        api_keys.revoke(db, role, who="test")
    revoked = time.monotonic()
    eventually(lambda: codes() == {401}, within=10, every=0.1)
    assert time.monotonic() - revoked < 5


def test_a_key_ends_when_it_expires_although_it_is_kept(client: TestClient, db: Connection) -> None:
    key = make(db, role="operate", expires_s=1.5)
    assert client.get("/admin/status", headers=bearer(key)).status_code == 200
    began = time.monotonic()
    eventually(lambda: client.get("/admin/status", headers=bearer(key)).status_code == 401, within=4, every=0.05)
    assert time.monotonic() - began < 2


def test_while_postgres_is_away_only_the_settings_key_is_taken_and_no_kept_one_for_longer_than_five_seconds(
    settings: Settings, database: str, db: Connection, index: IndexReader
) -> None:
    key, unseen = make(db, role="admin"), make(db, "unseen", role="admin")
    with Proxy.before(_url(database)) as proxy:
        url = SecretStr(proxy.instead(_url(database)))
        away = settings.model_copy(update={"database_url": url, "metrics_open": False})
        with TestClient(create_app(away), raise_server_exceptions=False) as client:
            assert client.get("/metrics", headers=bearer(key)).status_code == 200
            proxy.mode = Mode.REFUSE
            last_taken = cut = time.monotonic()
            while client.get("/metrics", headers=bearer(key)).status_code == 200:
                last_taken = time.monotonic()
                time.sleep(0.1)
            assert last_taken - cut < 5
            for refused in (key, unseen):
                assert client.get("/metrics", headers=bearer(refused)).status_code == 503
            assert client.get("/metrics", headers=ADMIN).status_code == 200
            assert client.get("/metrics", headers=bearer("no form of a key")).status_code == 401
            proxy.mode = Mode.PASS
            eventually(lambda: client.get("/metrics", headers=bearer(key)).status_code == 200, within=15, every=0.2)


def test_a_key_works_again_once_what_was_wrong_with_the_table_of_keys_is_mended(
    client: TestClient, db: Connection
) -> None:
    key = make(db, role="operate")
    db.execute("ALTER TABLE reindexer.api_key RENAME TO elsewhere")
    assert client.get("/admin/status", headers=bearer(key)).status_code == 503
    db.execute("ALTER TABLE reindexer.elsewhere RENAME TO api_key")
    eventually(lambda: client.get("/admin/status", headers=bearer(key)).status_code == 200, within=5, every=0.1)


def test_a_key_that_searches_is_not_told_where_the_servers_are_nor_what_the_table_is_like(
    settings: Settings, db: Connection, index: IndexReader
) -> None:
    key, body = make(db, role="search"), {"source": "context_items", "query": "x"}
    away = settings.model_copy(update={"qdrant_url": "http://127.0.0.1:1"})
    with TestClient(create_app(away), raise_server_exceptions=False) as client:
        told = client.post("/search", json=body, headers=ADMIN)
        assert told.status_code == 503
        assert "127.0.0.1" in told.json()["detail"]
        with capture_logs() as logged:
            hidden = client.post("/search", json=body, headers=bearer(key))
    assert hidden.status_code == 503
    assert hidden.json()["detail"] == "the search can't be answered now; whoever operates this API sees why in its log"
    assert ["127.0.0.1" in each["error"] for each in logged if each["event"] == "search_refused"] == [True]


def test_an_answer_of_postgres_that_comes_late_lets_nobody_in(database: str, db: Connection) -> None:
    """It may be of a time before the key was revoked."""
    key = make(db, role="admin")
    with Proxy.before(_url(database)) as proxy:
        postgres = Postgres(proxy.instead(_url(database)), application_name="test", answer_s=20)
        cache = KeyCache(postgres)

        async def asked_while_held(held_s: float) -> list[object]:
            proxy.matching, proxy.mode = b"api_key", Mode.HOLD_REPLY
            asked = [asyncio.create_task(cache.find(key))]
            await asyncio.sleep(0)
            eventually(lambda: proxy.held > 0, within=5)
            api_keys.revoke(db, "k", who="test")
            await asyncio.sleep(held_s)
            asked.append(asyncio.create_task(cache.find(key)))
            await asyncio.sleep(0)
            proxy.mode = Mode.PASS
            return list(await asyncio.gather(*asked))

        assert asyncio.run(asked_while_held(KEEP_S + 0.5)) == [None, None]
        cache.close()
        postgres.close()


def test_a_flood_of_unknown_keys_is_bounded_and_ends_soon_while_postgres_stalls(database: str, db: Connection) -> None:
    key = make(db, role="admin")
    with Proxy.before(_url(database)) as proxy:
        postgres = Postgres(proxy.instead(_url(database)), application_name="test", answer_s=2)
        cache = KeyCache(postgres)

        async def flood() -> list[object]:
            unknown = [key_of(n.to_bytes(32)) for n in range(MAX_WAITING + 50)]
            return await asyncio.gather(*(cache.find(each) for each in unknown), return_exceptions=True)

        assert asyncio.run(cache.find(key)) is not None
        proxy.mode = Mode.STALL
        began = time.monotonic()
        answers = asyncio.run(flood())
        assert time.monotonic() - began < 30
        assert sum("too many unknown keys" in str(each) for each in answers) == 50
        assert all(isinstance(each, TransientError) for each in answers)
        proxy.mode = Mode.PASS
        time.sleep(KEEP_FAILURE_S)
        assert asyncio.run(cache.find(key)) is not None
        cache.close()
        postgres.close()


def test_a_key_works_where_no_admin_key_is_set(settings: Settings, db: Connection, index: IndexReader) -> None:
    key = make(db, role="operate")
    with TestClient(create_app(settings.model_copy(update={"admin_api_key": None}))) as client:
        assert client.get("/admin/status", headers=bearer(key)).status_code == 200
        assert client.get("/admin/status", headers=bearer(key_of(b"x" * 32))).status_code == 401
        assert client.get("/admin/status", headers=bearer("x")).status_code == 503


def test_the_table_holds_no_key_and_its_hash_is_no_key(client: TestClient, db: Connection) -> None:
    made = api_keys.create(db, "k", who="test", role="admin")
    assert made.key not in repr(made)
    stored = str(db.execute("SELECT to_jsonb(api_key)::text FROM reindexer.api_key").fetchone())
    assert made.key not in stored
    assert key_hash(made.key).hex() in stored
    for wrong in (made.key[:-1], made.key + "A", made.key.lower(), key_hash(made.key).hex()):
        assert client.get("/admin/status", headers=bearer(wrong)).status_code == 401, wrong


def test_each_key_is_found_by_the_whole_of_it(db: Connection) -> None:
    keys = {name: make(db, name, role="admin") for name in ("one", "two", "three")}
    for name, key in keys.items():
        found_key = api_keys.find(db, key)
        assert found_key is not None
        assert found_key.access.name == name
        assert api_keys.find(db, key[:20] + keys["one" if name != "one" else "two"][20:]) is None


def test_making_and_revoking_a_key_and_what_it_does_are_in_the_audit(client: TestClient, db: Connection) -> None:
    key = make(db, "deploy", role="operate", expires_s=timedelta(days=1).total_seconds())
    client.post("/admin/pause", headers=bearer(key), json={})
    client.post("/admin/resume", headers={**bearer(key), "X-Actor": "alice"}, json={})
    client.post("/admin/pause", headers={**bearer(key), "X-Actor": f"me {key}"}, json={})
    client.post("/admin/pause", headers=ADMIN, json={})
    make(db, "narrow", source="context_items", where=["title=secret"])
    api_keys.revoke(db, "deploy", who="test")
    rows = db.execute(
        "SELECT who, action, source, details FROM reindexer.audit WHERE action <> 'migrate' ORDER BY id"
    ).fetchall()
    assert [(who, action, source) for who, action, source, _ in rows] == [
        ("test", "key_create", None),
        ("api testclient key deploy", "pause", None),
        ("api testclient key deploy (alice)", "resume", None),
        ("api testclient key deploy", "pause", None),
        ("api testclient", "pause", None),
        ("test", "key_create", "context_items"),
        ("test", "key_revoke", None),
    ]
    assert rows[0][3].keys() == {"key", "role", "filter", "expires_at"}
    assert rows[5][3] == {"key": "narrow", "role": "search", "filter": ["title"], "expires_at": None}
    told = str(rows)
    assert key not in told
    assert "secret" not in told


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"source": "nothing"}, "there is no source 'nothing'"),
    ({"role": "operate", "source": "notes"}, "narrows keys of the role search"),
    ({"where": ["tenant=acme"]}, "a filter needs a source"),
    ({"source": "notes", "where": ["tenent=acme"]}, "is no payload column; is it 'tenant'"),
    ({"source": "notes", "where": ["body=x"]}, "is no payload column"),
    ({"source": "notes", "where": ["tenant!=acme"]}, "one value, no list, null or comparison"),
    ({"source": "notes", "where": ["stars>=1"]}, "one value, no list, null or comparison"),
    ({"source": "notes", "where": ["tenant=null"]}, "one value, no list, null or comparison"),
    ({"source": "notes", "where": ['tenant=["acme", "globex"]']}, "one value, no list, null or comparison"),
    ({"source": "notes", "where": ["tenant=acme", "tenant=globex"]}, "names 'tenant' twice"),
    ({"source": "notes", "where": ["stars=many"]}, "its column holds integer values"),
    ({"source": "notes", "where": {"tenant": {"not": "acme"}}}, "one value, no list, null or comparison"),
    ({"source": "notes", "where": {"tenant": "ac\0me"}}, "the filter has a character that Postgres can't store"),
    ({"source": "notes", "where": {"meta.\ud800": "acme"}}, "the filter has a character that Postgres can't store"),
    ({"expires_s": 0}, "a key expires after one second"),
    ({"role": "root"}, "one of search, operate, admin"),
]
"""Keys that can't be meant, and words of the refusal."""


def test_a_key_that_can_not_be_meant_is_refused_in_one_line(db: Connection) -> None:
    attach_tenants(db)
    for what, words in REFUSED:
        with pytest.raises(UsageError, match=re.escape(words)) as refused:
            make(db, **what)
        assert "\n" not in str(refused.value)
    assert api_keys.all_keys(db) == []


def test_a_live_keys_name_is_taken_and_free_again_when_it_has_ended(db: Connection) -> None:
    first = make(db, "k")
    with pytest.raises(UsageError, match="a live key is named 'k' already"):
        make(db, "k")
    api_keys.revoke(db, "k", who="test")
    with pytest.raises(UsageError, match="no live key is named 'k'"):
        api_keys.revoke(db, "k", who="test")
    second = make(db, "k", expires_s=1)
    eventually(lambda: api_keys.find(db, second) is None, within=3)
    with pytest.raises(UsageError, match="no live key is named 'k'"):
        api_keys.revoke(db, "k", who="test")
    third = make(db, "k")
    assert [each.state for each in api_keys.all_keys(db)] == ["revoked", "expired", "live"]
    assert [api_keys.find(db, each) is not None for each in (first, second, third)] == [False, False, True]
    for name in ("", "-k", "a b", "x" * 101, "k\n", "ö"):
        with pytest.raises(UsageError, match="a key's name has"):
            make(db, name)


def test_the_definition_of_the_generation_that_searches_use_decides(
    client: TestClient, settings: Settings, notes: Connection, worker: Worker
) -> None:
    """A key's column goes by a promotion, and comes back by a rollback."""
    key = make(notes, source="notes", where=["tenant=acme"])
    without = replace(rebuilding.wanted(settings, notes, "notes"), payload_columns=("lang",), tenant_column=None)
    lifecycle.rebuild(notes, without, worker.embedder_of(without).fingerprint, who="test")
    eventually(Flow(notes, worker).settles, within=30)
    assert found(post(client, key)) == rows_of(notes, "acme")
    promotion.promote(notes, "notes", who="test", terms=Terms(patience_s=10))
    assert post(client, key).status_code == 403
    promotion.rollback(notes, "notes", who="test", terms=Terms(patience_s=10))
    assert found(post(client, key)) == rows_of(notes, "acme")


def _url(database: str) -> str:
    """The database as a URL with host and port."""
    parts: dict[str, Any] = conninfo_to_dict(database)
    return f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
