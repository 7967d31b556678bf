"""Requests that no well-meaning client sends: NUL, surrogates, huge numbers, deep nesting, traversal, endless bodies."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from api.limits import BodyLimit
from api.main import create_app
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.processes import log_of
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

KEY = {"X-API-Key": "test-admin-key"}

IN_PATHS = [
    "%00", "a%00b", "..%2f..%2f..%2fetc%2fpasswd", "../../../../etc/passwd", "%2e%2e/%2e%2e", "//", "%ff%fe", "%ed%a0%80",
    "%", "%zz", "9" * 400, "-1", "0", "1e400", "9223372036854775808", "NaN", "a" * 5000, "%25s%20%27%22%3b", "[]", "{}",
    "\u2603", "%0d%0aX-Injected:%201", "null",
]  # fmt: skip

IN_BODIES = [
    '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', "9" * 400, "-" + "9" * 30, "1e400", "NaN", "Infinity", "-0.0", "1.5", "null",
    "true", "[]", "{}", '""', '" "', json.dumps("x" * 100_000), "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500,
    '["\\u0000"]', '[["\\u0000", 1]]', '{"\\u0000": 1}', '{"a": "\\ud800"}', "[1e400]", "[" + "9" * 400 + "]", "[null, true]",
    json.dumps("'; DROP TABLE context_items; --"), json.dumps("%s %(x)s {} $1"),
]  # fmt: skip

SHARES = 3
"""Each route is tried with a third of these; every case takes another third."""


@pytest.fixture
def client(settings: Settings, db: Connection, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as client:
        yield client


def operations(client: TestClient) -> list[tuple[str, str, Any]]:
    """(method, path, schema of the body or None) of every route."""
    description = client.get("/openapi.json").json()
    found = []
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            content = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = str(content.get("$ref", "")).rpartition("/")[2]
            found.append((method.upper(), path, description["components"]["schemas"].get(name)))
    return found


def filled(path: str, value: str) -> str:
    """The path with that value for each of its parameters."""
    return "".join(value if part.startswith("{") else part for part in re.split(r"(\{[^}]*\})", path))


@pytest.mark.first(1)
@pytest.mark.parametrize("share", range(SHARES))
def test_no_path_or_query_is_a_server_error(client: TestClient, share: int) -> None:
    for n, (method, path, body) in enumerate(operations(client)):
        if path == "/readyz":
            continue
        for odd in IN_PATHS[(n + share) % SHARES :: SHARES]:
            for url in (filled(path, odd), f"{path}?source={odd}&limit={odd}&cursor={odd}"):
                answer = client.request(method, url, json=None if body is None else {})
                assert answer.status_code < 500, (method, url, answer.text)
                assert "x-injected" not in answer.headers
                assert "root:" not in answer.text


@pytest.mark.first(1)
@pytest.mark.parametrize("share", range(SHARES))
def test_no_body_is_a_server_error(client: TestClient, share: int) -> None:
    tried = 0
    for n, (method, path, body) in enumerate(operations(client)):
        url = filled(path, "1")
        if body is None:
            continue
        good = json.dumps(body["examples"][0])
        bodies = [*IN_BODIES, "", "{", "\xff", good + good]
        bodies += [
            re.sub(r"\}$", "", good) + ("," if good != "{}" else "") + f"{json.dumps(field)}: {odd}}}"
            for field in body["properties"] for odd in IN_BODIES
        ]  # fmt: skip
        for content in bodies[(n + share) % SHARES :: SHARES]:
            raw = content.encode("latin-1" if content == "\xff" else "utf-8")
            answer = client.request(method, url, content=raw, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (method, url, content[:200], answer.text)
            tried += 1
    assert tried > 500


def test_every_text_list_and_number_of_a_request_is_bounded(client: TestClient) -> None:
    """By the description, or by the limit of the whole body."""
    description = client.get("/openapi.json").json()
    for methods in description["paths"].values():
        for about in methods.values():
            for parameter in about.get("parameters", []):
                wanted = parameter["schema"]
                options = wanted.get("anyOf", [wanted])
                assert all(
                    "maxLength" in each or "maximum" in each or each.get("format") in ("uuid", "date-time")
                    or each["type"] in ("null", "boolean") or "enum" in each for each in options
                ), parameter  # fmt: skip
    for name, each in description["components"]["schemas"].items():
        for field, wanted in each.get("properties", {}).items():
            if name.endswith("Request") and wanted.get("type") in ("integer", "number"):
                assert "maximum" in wanted, (name, field)


def test_a_body_that_drips_is_answered_408_and_one_that_is_complete_is_not_hurried() -> None:
    async def reads_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await receive()  # as a response does that waits for the client's going away

    drops = iter([True] * 100 + [False])

    async def drips() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": next(drops)}

    messages = iter([{"type": "http.request", "body": b"x", "more_body": False}])

    async def goes_late() -> Message:
        for message in messages:
            return message
        await asyncio.sleep(0.3)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    scope = {"type": "http", "headers": []}
    with pytest.raises(Exception, match="did not arrive within") as slow:
        asyncio.run(BodyLimit(reads_all, max_s=0.2)(scope, drips, send))
    assert getattr(slow.value, "status_code", None) == 408
    asyncio.run(BodyLimit(reads_all, max_s=0.2)(scope, goes_late, send))


def raw(url: str, request: bytes) -> bytes:
    """What the server answers to these bytes."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), parts.port or 80), timeout=10) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)
        except OSError:
            return b""  # the server closed it: an answer too


def test_no_malformed_http_harms_the_server(processes: Processes) -> None:
    child, url = processes.api(REINDEXER_LOG_LEVEL="DEBUG")
    key = b"X-API-Key: test-admin-key\r\n"
    post = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + key
    requests = [
        b"GET /admin/status HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"k" * 200_000 + b"\r\n\r\n",
        b"GET /admin/status HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 5_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /admin/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\x80\r\n\r\n",
        b"GET /admin/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        b"GET /admin/items/context_items/\xff\xfe HTTP/1.1\r\nHost: x\r\n" + key + b"\r\n",
        b"GET http://elsewhere/admin/status HTTP/1.1\r\nHost: x\r\n" + key + b"\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        post + b"Content-Length: -1\r\n\r\n",
        post + b"Content-Length: 99999999999999999999\r\n\r\n",
        post + b"Content-Length: 10\r\nContent-Length: 11\r\n\r\n0123456789",
        post + b"Content-Length: 100\r\n\r\n{",
        post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
        post + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        post + b"Content-Length: 2000000\r\n\r\n" + b"[" * 2_000_000,
    ]
    for request in requests:
        answer = raw(url, request)
        assert re.match(rb"HTTP/1\.1 [234]\d\d |$", answer), (request[:80], answer[:300])
    assert httpx.get(f"{url}/healthz").status_code == 200
    log = log_of(child)
    assert "unexpected_error" not in log
    assert "Traceback" not in log
