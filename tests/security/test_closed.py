"""Closed without the key: every route that the OpenAPI description names, but those that are meant to be open."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

import api.routes
from api.main import create_app
from reindexer.core.api_key import same
from reindexer.settings import Settings
from tests.support.timing import median_ratio

OPEN = {"GET /healthz", "GET /readyz", "GET /metrics"}
PAGES = {"/openapi.json", "/docs", "/docs/oauth2-redirect"}
"""What needs no key beside: the description of the routes."""

WRONG: list[dict[str, str | bytes]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Bearer test-admin-key2"},
    {"Authorization": "Bearer test-admin-ke"},
    {"Authorization": "Bearer test-admin-key, Bearer x"},
    {"Authorization": "Basic test-admin-key"},
    {"Authorization": "test-admin-key"},
    {"Authorization": b"Bearer \xff\xfe"},
    {"X-API-Key": ""},
    {"X-API-Key": "TEST-ADMIN-KEY"},
    {"X-API-Key": "wröng".encode()},
    {"X-API-Key": "Bearer test-admin-key"},
    {"Cookie": "X-API-Key=test-admin-key"},
]


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def operations(client: TestClient) -> list[tuple[str, str]]:
    """(method, a path without braces) of every route that is not open."""
    found = []
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            if f"{method.upper()} {path}" not in OPEN:
                found.append((method.upper(), re.sub(r"\{[^}]*\}", "1", path)))
    return found


def send(client: TestClient, method: str, path: str, headers: Any = None, content: Any = b"{}") -> httpx2.Response:
    headers = {"Content-Type": "application/json", **(headers or {})}
    return client.request(method, path, headers=headers, content=content)


def test_every_route_but_health_is_closed_without_the_key_and_with_a_wrong_one(client: TestClient) -> None:
    routes = operations(client)
    assert len(routes) >= 16
    for method, path in routes:
        for headers in WRONG:
            answer = send(client, method, path, headers)
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"


def test_the_key_is_looked_at_before_the_body_is_read(client: TestClient) -> None:
    app: Any = client.app

    async def code(method: str, path: str) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("the body was asked for")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
            "app": app,
        }  # fmt: skip
        await app(scope, receive, send)
        return int(sent[0]["status"])

    for method, path in operations(client):
        assert asyncio.run(code(method, path)) == 401, (method, path)


def test_every_closed_route_says_so_in_its_description(client: TestClient) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, about in methods.items():
            closed = f"{method.upper()} {path}" not in OPEN
            assert bool(about.get("security")) == closed, (method, path)
            assert ("401" in about["responses"]) == closed, (method, path)


def test_no_route_is_missing_from_the_description(client: TestClient) -> None:
    app: Any = client.app
    described = client.get("/openapi.json").json()["paths"].keys()
    modules = [import_module(f"api.routes.{each.name}") for each in iter_modules(api.routes.__path__)]
    assert {route.path_format for module in modules for route in module.router.routes} == described
    plain = {route.path for route in app.routes if hasattr(route, "path")}
    assert plain - {"/static-offline-docs"} == PAGES


@pytest.mark.parametrize("key", [None, SecretStr("")], ids=["none", "empty"])
def test_every_closed_route_is_503_until_a_key_is_set(settings: Settings, key: SecretStr | None) -> None:
    with TestClient(create_app(settings.model_copy(update={"admin_api_key": key}))) as client:
        for method, path in operations(client):
            for headers in ({}, {"X-API-Key": ""}, {"Authorization": "Bearer "}, {"X-API-Key": "test-admin-key"}):
                assert send(client, method, path, headers).status_code == 503, (method, path, headers)


def test_an_open_search_opens_nothing_else(settings: Settings) -> None:
    with TestClient(create_app(settings.model_copy(update={"search_open": True}))) as client:
        for method, path in operations(client):
            code = send(client, method, path).status_code
            assert code == (422 if path in ("/search", "/similar", "/wait") else 401), (method, path)


def test_both_headers_carry_the_key(client: TestClient) -> None:
    for headers in ({"Authorization": "bearer  test-admin-key "}, {"X-API-Key": "test-admin-key"},
                    {"Authorization": "Bearer test-admin-key", "X-API-Key": "wrong"}):  # fmt: skip
        assert send(client, "GET", "/context-items", headers).status_code == 200, headers


@pytest.mark.alone
def test_the_key_is_compared_in_constant_time() -> None:
    """Of keys so long that a comparison that stops at the first difference would be a thousand times faster."""
    wanted = b"k" * 2_000_000
    early, late = b"x" + wanted[1:], wanted[:-1] + b"x"

    def took_s(given: bytes) -> float:
        began = time.process_time()
        assert not same(given, wanted)
        return time.process_time() - began

    assert same(bytes(wanted), wanted)
    assert 0.5 < median_ratio(lambda: took_s(early), lambda: took_s(late), pairs=15) < 2
