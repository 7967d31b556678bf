"""A receiver of webhooks: a real HTTP server on loopback that verifies each by the reference library, and can be slow,
away, refuse, and die while it is asked."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True, slots=True)
class Message:
    """One webhook as it arrived."""

    type: str
    data: Mapping[str, Any]
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def item(self) -> str:
        """The item that it is about; empty: about none."""
        return str(self.data.get("item_id", ""))


@dataclass(frozen=True, slots=True)
class Reply:
    """How to answer."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    """Before the answer begins."""
    drip_s: float = 0.0
    """Pause before each of 100 bytes of the body."""
    dies: bool = False
    """The connection is reset in the place of an answer."""


Plan = Callable[[Message], Reply]


class Receiver:
    """Takes webhooks on one port until `close`. `taken` are those that it answered by 2xx."""

    def __init__(self, secret: str = "", port: int = 0) -> None:
        self.secret = secret
        self.patience_s = 60.0
        """The sender waits for so long. What takes longer is not in flight for it, though it may be here."""
        self.plan: Plan = lambda message: Reply()
        self.asked: list[Message] = []
        self.taken: list[Message] = []
        self.refused: list[str] = []
        """What the reference library said of signatures that it does not take."""
        self.at_once: Counter[str] = Counter()
        self.most_at_once = 0
        self.twice_at_once: list[str] = []
        """Items of which two webhooks were in flight at once."""
        self.lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self.port = port
        self.open()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hooks?of=test"

    @property
    def is_dead(self) -> bool:
        """Whether nothing listens."""
        return self._server is None

    def open(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with receiver.lock:
                    receiver._connections.add(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = receiver._take(body, dict(self.headers.items()))
                if reply.dies:
                    _reset(self.connection)
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                drips = 100 if reply.drip_s else 0
                self.send_header("Content-Length", str(drips))
                self.end_headers()
                for _ in range(drips):
                    time.sleep(reply.drip_s)
                    self.wfile.write(b".")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the sender gave up

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        """As a process that is killed: the port is closed, and so is each connection, whatever it was about to say."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        with self.lock:
            connections, self._connections = self._connections, set()
        for each in connections:
            _reset(each)
        self._server = None

    def close(self) -> None:
        """End it."""
        if self._server is not None:
            self.die()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing listens meanwhile."""
        self.die()
        yield
        self.open()

    def last(self) -> dict[str, Message]:
        """The last message about each item that was taken."""
        with self.lock:
            return {message.item: message for message in self.taken}

    def types(self) -> list[str]:
        """What was taken, in order."""
        with self.lock:
            return [message.type for message in self.taken]

    def disorder(self) -> list[str]:
        """Items of which an older event was taken after a newer one."""
        newest: dict[str, int] = {}
        found = []
        with self.lock:
            for message in self.taken:
                if message.item and message.data["version"] < newest.get(message.item, 0):
                    found.append(message.item)
                newest[message.item] = max(newest.get(message.item, 0), message.data["version"])
        return found

    def _take(self, body: bytes, headers: dict[str, str]) -> Reply:
        told = json.loads(body)
        message = Message(told["type"], told["data"], headers, body, time.monotonic())
        try:
            if self.secret:
                Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError as exc:
            self.refused.append(str(exc))
        with self.lock:
            self.asked.append(message)
        reply = self.plan(message)
        is_awaited = reply.wait_s < self.patience_s
        with self.lock:
            self.at_once[message.item] += is_awaited
            self.most_at_once = max(self.most_at_once, self.at_once.total())
            if message.item and self.at_once[message.item] > 1:
                self.twice_at_once.append(message.item)
        time.sleep(reply.wait_s)
        with self.lock:
            self.at_once[message.item] -= is_awaited
        if 200 <= reply.status < 300 and not reply.dies:
            with self.lock:
                self.taken.append(message)
        return reply


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
        connection.close()
