"""The proxy that other tests make faults with does what it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from reindexer.testing.proxy import Edit, Mode, Proxy
from reindexer.testing.waiting import eventually


class Echo:
    """A server that answers each chunk with the same chunk, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(1000):
                    self.asked.append(chunk)
                    connection.sendall(chunk)
            except OSError:
                pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as running:
        yield running


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)


def ask(connection: socket.socket, chunk: bytes = b"hello") -> bytes:
    connection.sendall(chunk)
    return connection.recv(1000)


def test_bytes_pass(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.REFUSE])
def test_open_connections_are_reset_and_new_ones_too_until_it_passes_again(proxy: Proxy, mode: Mode) -> None:
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.mode = mode
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
    with pytest.raises(ConnectionError), connect(proxy) as connection:
        assert ask(connection) != b""
    proxy.mode = Mode.PASS
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"


def test_a_refused_connection_is_refused(proxy: Proxy) -> None:
    proxy.mode = Mode.REFUSE
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_stalled_connections_stay_open_and_go_on_later(proxy: Proxy) -> None:
    with connect(proxy) as old:
        assert ask(old) == b"hello"
        proxy.mode = Mode.STALL
        with connect(proxy) as new:
            for connection in (old, new):
                with pytest.raises(TimeoutError):
                    ask(connection, b"later")
            proxy.mode = Mode.PASS
            assert [connection.recv(1000) for connection in (old, new)] == [b"later", b"later"]


def test_a_stalled_connection_can_be_reset(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.mode = Mode.STALL
        connection.sendall(b"x" * 1000)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(10)


def test_what_was_sent_on_a_frozen_connection_arrives_late_while_new_connections_pass(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as old:
        assert ask(old) == b"hello"
        proxy.freeze()
        with pytest.raises(TimeoutError):
            ask(old, b"late")
    with connect(proxy) as new:
        assert ask(new, b"newer") == b"newer"
        proxy.thaw()
        eventually(lambda: echo.asked == [b"hello", b"newer", b"late"])


def test_a_dropped_reply_is_to_a_request_that_the_server_got(proxy: Proxy, echo: Echo) -> None:
    proxy.matching = b"write"
    proxy.mode = Mode.DROP_REPLY
    with connect(proxy) as connection:
        assert ask(connection, b"read") == b"read"
        connection.sendall(b"write")
        eventually(lambda: b"write" in echo.asked)
        with pytest.raises(ConnectionError):
            ask(connection, b"and the rest of it")
    assert echo.asked[:2] == [b"read", b"write"]
    eventually(lambda: proxy.lost_replies == 1)


def test_a_held_request_arrives_late_even_where_its_sender_is_gone(proxy: Proxy, echo: Echo) -> None:
    proxy.matching = b"write"
    proxy.mode = Mode.HOLD_REQUEST
    with connect(proxy) as connection, connect(proxy) as other:
        connection.sendall(b"write")
        eventually(lambda: proxy.held == 1)
        assert ask(other, b"read") == b"read"
    assert echo.asked == [b"read"]
    proxy.mode = Mode.PASS
    eventually(lambda: echo.asked == [b"read", b"write"])


def test_of_a_held_request_of_http_the_head_arrives(proxy: Proxy, echo: Echo) -> None:
    proxy.matching = b"PUT"
    proxy.mode = Mode.HOLD_REQUEST
    with connect(proxy) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\n\r\nbody")
        eventually(lambda: proxy.held == 1)
        eventually(lambda: echo.asked == [b"PUT / HTTP/1.1\r\n\r\n"])
        proxy.mode = Mode.PASS
        eventually(lambda: echo.asked[1:] == [b"body"])


def test_a_held_request_never_arrives_if_its_link_is_reset(proxy: Proxy, echo: Echo) -> None:
    proxy.matching = b"write"
    proxy.mode = Mode.HOLD_REQUEST
    with connect(proxy) as connection:
        connection.sendall(b"write")
        eventually(lambda: proxy.held == 1)
        proxy.reset()
        eventually(lambda: proxy.held == 0)
    proxy.mode = Mode.PASS
    with connect(proxy) as connection:
        assert ask(connection, b"read") == b"read"
    assert echo.asked == [b"read"]


def test_a_held_reply_is_to_a_request_that_the_server_got_however_it_was_cut(proxy: Proxy, echo: Echo) -> None:
    proxy.matching = b"write"
    with connect(proxy) as connection:
        assert ask(connection, b"write") == b"write"
        proxy.mode = Mode.HOLD_REPLY
        assert ask(connection, b"read") == b"read"
        connection.sendall(b"write")
        eventually(lambda: proxy.held == 1)
        connection.sendall(b"body")
        eventually(lambda: echo.asked[-1].endswith(b"body"))
        with pytest.raises(TimeoutError):
            connection.recv(10)
        proxy.mode = Mode.PASS
        eventually(lambda: proxy.held == 0)
        assert connection.recv(1000).startswith(b"write")


def test_a_url_leads_through_it(echo: Echo) -> None:
    with Proxy.before(f"redis://user:secret@127.0.0.1:{echo.port}/0") as proxy:
        assert proxy.instead("redis://user:secret@localhost:1/0") == f"redis://user:secret@127.0.0.1:{proxy.port}/0"


def test_frozen_connections_never_go_on_and_new_ones_pass(proxy: Proxy) -> None:
    with connect(proxy) as old:
        assert ask(old) == b"hello"
        proxy.freeze()
        with connect(proxy) as new:
            assert ask(new) == b"hello"
        with pytest.raises(TimeoutError):
            ask(old)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            old.recv(10)


def test_replies_can_be_edited_connection_by_connection(echo: Echo) -> None:
    def numbering() -> Edit:
        seen: list[bytes] = []

        def edit(chunk: bytes) -> bytes:
            seen.append(chunk)
            return b"%d" % len(seen)

        return edit

    with Proxy("127.0.0.1", echo.port, edit=numbering) as proxy, connect(proxy) as first, connect(proxy) as second:
        assert [ask(first), ask(first), ask(second)] == [b"1", b"2", b"1"]
