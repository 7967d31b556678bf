"""Where Qdrant is: QDRANT_URL without a port, behind an ingress, beneath a path; and what answers there instead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.errors import DependencyUnavailable
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.wiring import worker as make_worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.servers import Servers

ALIAS = "127.0.0.77"
"""A loopback address on which nobody listens."""


@contextmanager
def ingress(qdrant_url: str, path: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A web server that leads to Qdrant beneath a path, and says 404 in HTML everywhere else; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith("/moved/"):
                self._send(301, b"", {"Location": "https://elsewhere/"})
            elif self.path.startswith("/page/"):
                self._send(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
            elif not self.path.startswith(f"{path}/"):
                self._send(404, b"<html>no such page</html>", {"Content-Type": "text/html"})
            else:
                kind = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
                answer = httpx.request(
                    self.command, qdrant_url + self.path.removeprefix(path), content=body, headers=kind
                )
                self._send(answer.status_code, answer.content, {"Content-Type": answer.headers["Content-Type"]})

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _relay

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response_only(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("end", ["", "/"])
def test_qdrant_beneath_a_path_is_written_and_searched(
    db: Connection, env: Mapping[str, str], settings: Settings, servers: Servers, index: IndexReader,
    here: Callable[..., Done], end: str,
) -> None:  # fmt: skip
    with ingress(servers.qdrant_url, "/deep/qdrant") as url:
        beneath = f"{url}/deep/qdrant{end}"
        worker = make_worker(settings.model_copy(update={"qdrant_url": beneath}), None)
        item_id = insert(db, "text")
        work(db, worker)
        worker.close()
        assert index.count() == 1
        found = here("search", "context_items", "text", "--json", env={**env, "QDRANT_URL": beneath})
        assert item_id in found.stdout


@pytest.mark.parametrize(("path", "told"), [("", "with 404"), ("/moved", "with 301"), ("/page", "without JSON")])
def test_what_answers_and_is_not_qdrant_is_told_so_and_no_item_is_blamed(
    db: Connection, env: Mapping[str, str], settings: Settings, servers: Servers, index: IndexReader,
    here: Callable[..., Done], path: str, told: str,
) -> None:  # fmt: skip
    with ingress(servers.qdrant_url, "/qdrant") as url:
        wrong = {**env, "QDRANT_URL": f"{url}{path}"}
        asked = here("search", "context_items", "text", env=wrong)
        line = f"Qdrant at {url}{path} does not answer; something else does ({told}): are port and path of QDRANT_URL right?"
        assert (asked.returncode, asked.stderr) == (1, f"reindexer: {line}\n")
        worker = make_worker(settings.model_copy(update={"qdrant_url": f"{url}{path}"}), None)
        insert(db, "text")
        work(db, worker)
        worker.close()
        assert db.execute("SELECT status FROM reindexer.item_status").fetchone() == ("PENDING",)


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_a_url_without_a_port_means_its_schemes_and_the_message_names_it_and_qdrants_own(
    db: Connection, env: Mapping[str, str], here: Callable[..., Done], scheme: str, port: int
) -> None:
    asked = here("search", "context_items", "text", env={**env, "QDRANT_URL": f"{scheme}://{ALIAS}/x"})
    assert asked.returncode == 1
    assert (
        f"Qdrant at {scheme}://{ALIAS}:{port}/x (QDRANT_URL names no port; Qdrant's own is 6333, write it if it is meant) "
        "does not answer: Connect" in asked.stderr
    )
    written = here("search", "context_items", "text", env={**env, "QDRANT_URL": f"{scheme}://{ALIAS}:9"})
    assert f"Qdrant at {scheme}://{ALIAS}:9 does not answer: Connect" in written.stderr


def test_a_url_without_a_port_finds_qdrant_on_port_80(servers: Servers) -> None:
    try:
        with ingress(servers.qdrant_url, "/qdrant", ALIAS, 80):
            QdrantIndex(f"http://{ALIAS}/qdrant", api_key=None, grpc_port=None).ping()
    except PermissionError:
        pytest.skip("this user may not listen on port 80")


def test_of_grpc_its_own_port_is_told() -> None:
    with pytest.raises(
        DependencyUnavailable, match=rf"Qdrant at http://{ALIAS}, gRPC on port 9, does not answer: UNAVAILABLE"
    ):
        QdrantIndex(f"http://{ALIAS}", api_key=None, grpc_port=9, timeout_s=2).ping()
