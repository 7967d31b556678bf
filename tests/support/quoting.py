"""A proxy before a real HTTP server that, when it is told to, refuses a request with an error that quotes all of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "host",
    "date",
    "server",
}


class QuotingProxy:
    """`refuse` decides by the request's body: the status of the error, or None to let it pass."""

    def __init__(self, upstream: str) -> None:
        self.refuse: Callable[[str], int | None] = lambda body: None
        self.refused = 0
        self._client = httpx.Client(base_url=upstream, timeout=30)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                text = body.decode("utf-8", "replace")
                if (status := proxy.refuse(text)) is not None:
                    proxy.refused += 1
                    quoted = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
                    self._answer(status, f'{{"status": {{"error": "{quoted} {text}"}}}}'.encode())
                    return
                headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
                answer = proxy._client.request(self.command, self.path, content=body, headers=headers)
                self._answer(answer.status_code, answer.content)

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        return Handler
