"""An embedding provider: a real HTTP server on loopback that speaks OpenAI's API, and can be slow, refuse and lie."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from reindexer.ports import Vectors

DIMENSIONS = 32


def vector_of(text: str, dimensions: int = DIMENSIONS) -> Vectors:
    """The one vector of a text, of unit length: the same in every process."""
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived."""

    inputs: tuple[str, ...]
    body: Mapping[str, Any]
    at: float
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer instead of vectors."""

    status: int
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    """Pause before each byte of the body."""
    cut_at: int | None = None
    """The connection is reset after so many bytes of the body; 0: before the answer begins."""


def error(status: int, code: str = "some_error", headers: Mapping[str, str] | None = None) -> Reply:
    """An error in OpenAI's shape."""
    return Reply(status, {"error": {"message": f"made up: {code}", "type": code, "code": code}}, headers or {})


def refuse_texts(call: Call) -> Reply | None:
    """What the users' texts are answered with: one letter is taken, so it is not that everything is refused."""
    return error(400, "invalid_input") if any(len(text) > 1 for text in call.inputs) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent where the caller is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakeProvider:
    """`calls` records every request. `behave` may answer otherwise, `latency_s` delays every answer."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.tokens = 0
        """What it counted in all right answers, whether or not they arrived."""
        self.latency_s = 0.0
        self.behave: Callable[[Call], Reply | None] = lambda _: None
        self.send_floats = False
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, as OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def inputs(self) -> list[str]:
        """All inputs of all requests, in order."""
        return [text for call in self.calls for text in call.inputs]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, body: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> Reply:
        """What to say to one request."""
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        call = Call(tuple(inputs), body, time.monotonic(), path, headers)
        with self._lock:
            self.calls.append(call)
        if self.latency_s:
            time.sleep(self.latency_s)
        return self.behave(call) or self.vectors(call)

    def vectors(self, call: Call) -> Reply:
        """The right answer."""
        inputs, body = call.inputs, call.body
        vectors = [vector_of(text, int(body.get("dimensions", DIMENSIONS))) for text in inputs]
        data = [{"object": "embedding", "index": i, "embedding": self._encoded(v)} for i, v in enumerate(vectors)]
        tokens = sum(len(text) // 4 + 1 for text in inputs)
        with self._lock:
            self.tokens += tokens
        return Reply(200, {"object": "list", "data": data, "model": body["model"],
                           "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})  # fmt: skip

    def _encoded(self, vector: Vectors) -> str | list[float]:
        return vector.tolist() if self.send_floats else base64.b64encode(vector.tobytes()).decode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = provider.answer(body, self.path, dict(self.headers))
                with suppress(OSError):  # the client has had enough
                    self._send(reply)

            def _send(self, reply: Reply) -> None:
                if reply.cut_at == 0:
                    self._reset()
                    return
                payload = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response_only(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                for name, value in {"Date": self.date_time_string(), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.drip_s:
                    self._drip(payload, reply.drip_s)
                elif reply.cut_at is not None:
                    self.wfile.write(payload[: reply.cut_at])
                    self._reset()
                else:
                    self.wfile.write(payload)

            def _drip(self, payload: bytes, pause_s: float) -> None:
                self.close_connection = True
                for byte in payload:
                    time.sleep(pause_s)
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()

            def _reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        return Handler
