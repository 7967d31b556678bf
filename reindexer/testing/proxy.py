"""A TCP proxy on loopback that does to a server's connections what networks and crashes do."""

from __future__ import annotations

import enum
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

Edit = Callable[[bytes], bytes]
"""What becomes of one chunk of a server's replies; keeps what it must know of its connection from chunk to chunk."""

CHUNK_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset, as when a process died or a firewall cut in."""
_TICK = struct.pack("ll", 0, 200_000)
"""SO_SNDTIMEO of 0.2 s: how soon a sender that the other side keeps waiting notices that its link is dead."""


class Mode(enum.Enum):
    """What happens to connections; a change of mode also takes hold of those that are open."""

    PASS = "pass"  # noqa: S105
    """Bytes go through, each chunk after `latency_s`."""
    REFUSE = "refuse"
    """Nobody listens; open connections are reset."""
    CUT = "cut"
    """Connections are accepted and reset, open ones too."""
    STALL = "stall"
    """Connections are accepted and stay open, and no byte moves; back in PASS, those that were held go on."""
    DROP_REPLY = "drop reply"
    """Requests get through. When the server begins to answer one that holds `matching`, its connection is reset: the
    server has done what the client never hears of."""
    HOLD_REQUEST = "hold request"
    """Requests that hold `matching` stay here (of HTTP, the body does: a server gives up on a client that sends nothing
    at all); all else gets through. Back in PASS they arrive, late, whatever became of their senders, unless their links
    were reset."""
    HOLD_REPLY = "hold reply"
    """The same with the replies to them: the server has done it, and the client does not hear of it yet."""


class Proxy:
    """Stands before one server. The mode can be changed at any time, from any thread; a context manager.

    `edit` makes what edits the replies of one new connection.
    """

    def __init__(self, host: str, port: int, edit: Callable[[], Edit] = lambda: bytes) -> None:
        self.latency_s = 0.0
        self._edit = edit
        self.matching = b""
        """For DROP_REPLY, HOLD_… and `freeze`: what a request holds (in one chunk) that is meant; empty: any."""
        self.lost_replies = 0
        self.held = 0
        """Requests and replies that are held now."""
        self.connections = 0
        """How many were made to the server so far."""
        self._target = (host, port)
        self._changed = threading.Condition()
        self._mode = Mode.PASS
        self._links: set[_Link] = set()
        # Never listens: it keeps the port ours while nobody does.
        self._holder = _bound(0)
        self.port = int(self._holder.getsockname()[1])
        self._listener: socket.socket | None = None
        self._listen()

    @classmethod
    def before(cls, url: str) -> Proxy:
        """A proxy to the server of a URL; `instead` gives the URL that leads through it."""
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        return cls(parts.hostname, parts.port)

    def instead(self, url: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.port}"))

    @property
    def mode(self) -> Mode:
        """What happens now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()
        if mode is Mode.REFUSE:
            self._unlisten()
        elif self._listener is None:
            self._listen()
        if mode in (Mode.REFUSE, Mode.CUT):
            self.reset()

    def reset(self) -> None:
        """Reset every open connection, whatever the mode."""
        for link in list(self._links):
            link.reset()
        with self._changed:
            self._changed.notify_all()

    def lead_to(self, port: int) -> None:
        """Stand before another server on loopback from now on, as a name does after a failover."""
        self._target = ("127.0.0.1", port)
        self.reset()

    def freeze(self, *, matching: bool = False) -> None:
        """Connections that are open now stand still until `thaw`, while new ones pass: what is sent on them arrives
        late, also where the sender has given up and gone on elsewhere.

        `matching`: only those whose last request holds `self.matching`."""
        for link in list(self._links):
            link.frozen = link.frozen or link.meant or not matching

    def thaw(self) -> None:
        """What was frozen goes on."""
        with self._changed:
            for link in list(self._links):
                link.frozen = False
            self._changed.notify_all()

    def close(self) -> None:
        """Stop listening and reset every connection."""
        self.mode = Mode.REFUSE
        self._holder.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        self._listener = _bound(self.port)
        self._listener.listen(256)
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def _unlisten(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept, which closing would not
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._mode in (Mode.CUT, Mode.REFUSE):
                _reset(client)
            else:
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        link = _Link(client, server)
        self._links.add(link)
        self.connections += 1
        if self._mode in (Mode.CUT, Mode.REFUSE):  # changed meanwhile
            link.reset()
        for pump in (self._requests, self._replies):
            threading.Thread(target=self._run, args=[pump, link], daemon=True).start()

    def _run(self, pump: Callable[[_Link], None], link: _Link) -> None:
        try:
            pump(link)
        except OSError:
            link.reset()
        finally:
            if link.ended():
                self._links.discard(link)

    def _requests(self, link: _Link) -> None:
        while chunk := link.client.recv(CHUNK_BYTES):
            self._hold(link)
            link.observe(self.matching in chunk)
            if link.meant and self._mode is Mode.HOLD_REQUEST:
                head, end, body = chunk.partition(b"\r\n\r\n")
                if end:
                    link.send(link.server, head + end)
                    chunk = body
                if chunk:
                    self._hold_while(Mode.HOLD_REQUEST, link)
            link.send(link.server, chunk)
        link.half_close(link.server)

    def _replies(self, link: _Link) -> None:
        edit = self._edit()
        while chunk := link.server.recv(CHUNK_BYTES):
            self._hold(link)
            if link.meant:
                self._hold_while(Mode.HOLD_REPLY, link)
            if self._mode is Mode.DROP_REPLY and link.meant:
                self.lost_replies += 1
                link.reset()
                return
            link.answered = True
            link.send(link.client, edit(chunk))
        link.half_close(link.client)

    def _hold(self, link: _Link) -> None:
        if self.latency_s:
            time.sleep(self.latency_s)
        self._hold_while(Mode.STALL, link)
        if link.frozen:
            with self._changed:
                self._changed.wait_for(lambda: not link.frozen or link.dead)

    def _hold_while(self, mode: Mode, link: _Link) -> None:
        if self._mode is not mode:
            return
        with self._changed:
            self.held += 1
            self._changed.wait_for(lambda: self._mode is not mode or link.dead)
            self.held -= 1


class _Link:
    """One connection and its way on. Two threads pump it; only the last of them closes its sockets, so that none ever
    uses the number of a closed one."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.meant = False
        """The request under way holds what is matched."""
        self.answered = False
        self.frozen = False
        self.dead = False
        self._open_ends = 2
        self._lock = threading.Lock()
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TICK)

    def observe(self, matches: bool) -> None:
        """A chunk of a request: the first of a new one, if the last one was answered."""
        self.meant = matches or (self.meant and not self.answered)
        self.answered = False

    def reset(self) -> None:
        """Make both pumps end, and their sockets close with a reset."""
        self.dead = True
        for each in (self.client, self.server):
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RD)  # wakes who reads, and sends nothing

    def send(self, sink: socket.socket, chunk: bytes) -> None:
        """All of it, unless the link dies while the other side does not take it."""
        left = memoryview(chunk)
        while left and not self.dead:
            with suppress(BlockingIOError):
                left = left[sink.send(left) :]

    def half_close(self, sink: socket.socket) -> None:
        """One side has said all that it will."""
        if not self.dead:
            sink.shutdown(socket.SHUT_WR)

    def ended(self) -> bool:
        """Called by each pump at its end; closes the sockets, and is True, for the second."""
        with self._lock:
            self._open_ends -= 1
            if self._open_ends:
                return False
        self.client.close()
        self.server.close()
        return True


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
