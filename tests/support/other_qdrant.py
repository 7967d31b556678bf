"""A Qdrant that is otherwise than the one behind it: something happens between the operations of one request, it is an
older one, or it hangs up."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

JSON = {"Content-Type": "application/json"}


class _PassesOn(BaseHTTPRequestHandler):
    url = ""
    status = 200

    def log_message(self, *_: object) -> None:
        """Silent."""

    def answer(self, body: bytes) -> bytes:
        """What the server behind it answers."""
        response = httpx.request(self.command, self.url + self.path, content=body, headers=JSON, timeout=10)
        self.status = response.status_code
        return response.content

    def _pass_on(self) -> None:
        content = self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.send_response(self.status)
        for name, value in {**JSON, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = _pass_on


@contextmanager
def batches_in_parts(url: str, between: Callable[[], None]) -> Iterator[str]:
    """Pass all requests on to the server at `url`; those of several operations one by one, with a call in between."""

    class InParts(_PassesOn):
        def answer(self, body: bytes) -> bytes:
            if "/points/batch" not in self.path:
                return super().answer(body)
            answers: list[bytes] = []
            for each in json.loads(body)["operations"]:
                if answers:
                    between()
                answers.append(super().answer(json.dumps({"operations": [each]}).encode()))
            return answers[-1]

    with _served(InParts, url) as served:
        yield served


@contextmanager
def of_version(url: str, version: str) -> Iterator[str]:
    """The server at `url`, which says that it is of this version."""

    class Older(_PassesOn):
        def answer(self, body: bytes) -> bytes:
            return (
                json.dumps({"title": "qdrant", "version": version}).encode()
                if self.path == "/"
                else super().answer(body)
            )

    with _served(Older, url) as served:
        yield served


@contextmanager
def silent_about_collections(url: str) -> Iterator[str]:
    """The server at `url`, which hangs up on whoever asks what a collection is like."""

    class Silent(_PassesOn):
        def do_GET(self) -> None:
            if not self.path.startswith("/collections/"):
                self._pass_on()

    with _served(Silent, url) as served:
        yield served


@contextmanager
def _served(handler: type[_PassesOn], url: str) -> Iterator[str]:
    handler.url = url
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
