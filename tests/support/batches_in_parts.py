"""A Qdrant that something happens to between the operations of one request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def batches_in_parts(url: str, between: Callable[[], None]) -> Iterator[str]:
    """Pass all requests on to the server at `url`; those of several operations one by one, with a call in between."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = None
            for part in self._parts(body):
                if answer is not None:
                    between()
                json_type = {"Content-Type": "application/json"}
                answer = httpx.request(self.command, url + self.path, content=part, headers=json_type, timeout=10)
            assert answer is not None
            self.send_response(answer.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def _parts(self, body: bytes) -> list[bytes]:
            if "/points/batch" not in self.path:
                return [body]
            return [json.dumps({"operations": [each]}).encode() for each in json.loads(body)["operations"]]

        do_GET = do_POST = do_PUT = _pass_on

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
