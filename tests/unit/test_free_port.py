"""The port that a server gets must stay free until the server listens: another process connects meanwhile."""

from __future__ import annotations

import socket

import pytest

from reindexer.embedded import children

FIRST_OUTGOING = 32_768
"""Linux gives ports from here on to outgoing connections, macOS and Windows from 49,152 on."""


def test_a_free_port_is_never_one_that_an_outgoing_connection_may_get() -> None:
    assert all(children.free_port() < FIRST_OUTGOING for _ in range(200))


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", children.free_port()))
        taken = server.getsockname()[1]
        monkeypatch.setattr(children, "SERVER_PORTS", range(taken, taken + 1))

        with pytest.raises(children.ChildFailed, match="no port"):
            children.free_port()
