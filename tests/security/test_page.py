"""The page's login: what the cookie is and allows, what other pages can't do with it, and when it ends."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.main import create_app
from api.page.session import COOKIE, LASTS_S, PAGE_HEADER, Sessions
from reindexer import api_keys
from reindexer.core.api_key import Role, key_hash
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

SITE = "http://testserver"
PAGE = {PAGE_HEADER: "1", "Sec-Fetch-Site": "same-origin"}
PAUSE: dict[str, Any] = {"url": "/admin/pause", "json": {}}


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def make(db: Connection, role: Role, name: str = "k") -> str:
    return api_keys.create(db, name, who="test", role=role).key


def log_in(client: TestClient, key: str, **headers: str) -> httpx2.Response:
    return client.post("/page/session", json={"key": key}, headers={**PAGE, **headers})


def code(client: TestClient, cookie: str, path: str = "/admin/status") -> int:
    client.cookies.clear()
    return int(client.get(path, headers={"Cookie": f"{COOKIE}={cookie}"}).status_code)


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_holds_no_key(
    client: TestClient, db: Connection
) -> None:
    for key in (make(db, "operate"), "test-admin-key"):
        answer = log_in(client, key)
        assert answer.status_code == 200
        about = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={LASTS_S}"} <= set(about.split("; "))
        assert "Secure" not in about
        assert key not in about
        assert answer.headers["cache-control"] == "no-store"
        secure = log_in(client, key, Origin="https://behind.a.proxy").headers["set-cookie"]
        assert "Secure" in secure.split("; ")
        client.cookies.clear()


def test_a_login_allows_what_its_key_does_and_no_more(client: TestClient, db: Connection) -> None:
    told = log_in(client, make(db, "operate", "desk")).json()
    assert (told["role"], told["name"]) == ("operate", "desk")
    assert "POST /admin/pause" in told["may"]
    assert "POST /search" not in told["may"]
    assert client.get("/admin/status").status_code == 200
    assert client.post(**PAUSE, headers=PAGE).status_code == 200
    assert client.post("/search", json={"query": "tea"}, headers=PAGE).status_code == 403
    assert client.get("/context-items").status_code == 403
    (who,) = db.execute("SELECT who FROM reindexer.audit WHERE action = 'pause'").fetchone() or ("",)
    assert who == "api testclient key desk"


def test_a_key_that_only_searches_and_a_wrong_one_get_no_cookie(client: TestClient, db: Connection) -> None:
    refused = log_in(client, make(db, "search"))
    assert refused.status_code == 403
    assert "the page needs one of the role operate or admin" in refused.json()["detail"]
    assert log_in(client, "wrong").status_code == 401
    assert log_in(client, "").status_code == 401
    assert client.post("/page/session", json={"key": ["secret"]}, headers=PAGE).status_code == 422
    assert not client.cookies


OF_OTHERS: list[dict[str, str]] = [
    {},
    {PAGE_HEADER: "1"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Origin": SITE},
    {PAGE_HEADER: "1", "Sec-Fetch-Site": "cross-site"},
    {PAGE_HEADER: "1", "Sec-Fetch-Site": "same-site"},
    {PAGE_HEADER: "1", "Sec-Fetch-Site": "none"},
    {PAGE_HEADER: "1", "Sec-Fetch-Site": "cross-site", "Origin": SITE},
    {PAGE_HEADER: "1", "Origin": "http://evil.example"},
    {PAGE_HEADER: "1", "Origin": "null"},
    {PAGE_HEADER: "1", "Origin": f"{SITE}.evil.example"},
]
"""Headers of a request that the page does not send."""


@pytest.mark.parametrize("headers", OF_OTHERS, ids=str)
def test_no_page_of_another_origin_changes_anything_by_the_cookie(
    client: TestClient, db: Connection, headers: dict[str, str]
) -> None:
    assert log_in(client, make(db, "admin")).status_code == 200
    assert client.post(**PAUSE, headers=headers).status_code == 403
    assert client.delete("/page/session", headers=headers).status_code == 403
    assert client.post("/page/session", json={"key": "test-admin-key"}, headers=headers).status_code == 403
    assert db.execute("SELECT count(*) FROM reindexer.source WHERE paused").fetchone() == (0,)
    assert client.get("/admin/status").status_code == 200


def test_the_page_changes_things_where_browsers_tell_the_origin_alone(client: TestClient, db: Connection) -> None:
    log_in(client, make(db, "admin"))
    assert client.post(**PAUSE, headers={PAGE_HEADER: "1", "Origin": SITE}).status_code == 200
    for site, wanted in {"same-origin": 200, "none": 200, "same-site": 403, "cross-site": 403}.items():
        assert client.get("/admin/status", headers={"Sec-Fetch-Site": site}).status_code == wanted


def test_a_key_in_a_header_needs_nothing_of_a_page_and_decides_over_the_cookie(
    client: TestClient, db: Connection
) -> None:
    log_in(client, make(db, "admin"))
    assert client.post(**PAUSE, headers={"X-API-Key": "test-admin-key"}).status_code == 200
    assert client.get("/admin/status", headers={"X-API-Key": "wrong"}).status_code == 401


def test_a_cookie_that_was_changed_or_made_elsewhere_is_refused(
    client: TestClient, settings: Settings, db: Connection
) -> None:
    key = make(db, "operate")
    log_in(client, key)
    cookie = client.cookies[COOKIE]
    whose, ends_at, session_id, signature = cookie.split(".")
    assert whose == key_hash(key).hex()
    assert code(client, cookie) == 200
    other = settings.model_copy(update={"admin_api_key": SecretStr("another-key")})
    for wrong in (
        "", "x", "...", cookie[:-1], f"{cookie}0", f"setting.{ends_at}.{session_id}.{signature}",
        f"{whose}.{int(ends_at) + 1}.{session_id}.{signature}", f"{key}", "test-admin-key",
        Sessions(other).begin(key_hash(key)), Sessions(other).begin(None),
    ):  # fmt: skip
        assert code(client, wrong) == 401, wrong


def test_a_login_is_one_to_each_process_and_ends_with_the_settings_key(settings: Settings, db: Connection) -> None:
    hashed = key_hash(make(db, "operate"))
    for whose in (hashed, None):
        cookie = Sessions(settings).begin(whose)
        found = Sessions(settings).read(cookie)
        assert found is not None
        assert found.key_hash == whose
        assert Sessions(settings.model_copy(update={"admin_api_key": SecretStr("new")})).read(cookie) is None
    without = settings.model_copy(update={"admin_api_key": None})
    one, another = Sessions(without), Sessions(without)
    assert one.read(one.begin(hashed)) is not None
    assert another.read(one.begin(hashed)) is None


def test_a_login_ends_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Sessions(settings)
    cookie, now = logins.begin(None), time.time()
    monkeypatch.setattr(time, "time", lambda: now + LASTS_S - 2)
    assert logins.read(cookie) is not None
    monkeypatch.setattr(time, "time", lambda: now + LASTS_S)
    assert logins.read(cookie) is None


def test_after_logout_a_copy_of_the_cookie_is_refused(client: TestClient, db: Connection) -> None:
    log_in(client, make(db, "operate"))
    cookie = client.cookies[COOKIE]
    answer = client.delete("/page/session", headers=PAGE)
    assert answer.status_code == 200
    assert not client.cookies
    assert code(client, cookie) == 401
    assert code(client, cookie, "/page/session") == 401


def test_the_files_come_with_a_strict_policy_and_nothing_else_does(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\bstyle=|\bon[a-z]+=|<style|https?://", page.text)
    assert re.findall(r"<script[^>]*>", page.text) == ['<script type="module" src="page/app.js">']
    for name in re.findall(r'"(page/[\w.]+)"', page.text):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for name in ("nothing.js", "index.html", "..%2Froutes.py", "../routes.py"):
        assert client.get(f"/page/{name}").status_code == 404, name


def test_the_pages_own_data_is_closed(client: TestClient) -> None:
    for path in ("/page/session", "/page/overview"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": "wrong"}).status_code == 401


def test_a_stream_ends_with_its_login_with_its_key_and_with_the_server(processes: Processes, db: Connection) -> None:
    keys = {name: make(db, "operate", name) for name in ("leaves", "revoked", "stays")}
    child, url = processes.api()
    cookies = {}
    for name, key in keys.items():
        with httpx.Client() as client:
            assert client.post(f"{url}/page/session", json={"key": key}, headers=PAGE).status_code == 200
            cookies[name] = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}

    def last_line(name: str, act: Any) -> tuple[str, float]:
        """What a stream says last, and when it ends, after something was done."""
        with httpx.stream("GET", f"{url}/page/overview", headers=cookies[name], timeout=15) as stream:
            lines = (line for line in stream.iter_lines() if line)
            assert next(lines).startswith("retry:")
            assert '"problems":' in next(lines)
            act()
            began = time.monotonic()
            last = ""
            for line in lines:
                last = line if line.startswith("event") else last
                if time.monotonic() - began > 10:
                    break
            return last, time.monotonic() - began

    said, took_s = last_line(
        "leaves", lambda: httpx.delete(f"{url}/page/session", headers={**PAGE, **cookies["leaves"]})
    )
    assert (said, took_s < 4) == ("event: ended", True)
    said, took_s = last_line("revoked", lambda: api_keys.revoke(db, "revoked", who="test"))
    assert (said, took_s < 7) == ("event: ended", True)
    said, took_s = last_line("stays", lambda: child.process.send_signal(signal.SIGTERM))
    assert (said, took_s < 4) == ("", True)
    assert child.process.wait(10) in (0, -signal.SIGTERM)
