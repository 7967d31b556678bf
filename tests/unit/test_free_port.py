"""The port that a server gets must stay free until the server listens: another process connects meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from reindexer.embedded import children

FIRST_OUTGOING = 32_768
"""Linux gives ports from here on to outgoing connections, macOS and Windows from 49,152 on."""


def test_a_free_port_is_never_one_that_an_outgoing_connection_may_get() -> None:
    assert all(children.free_port() < FIRST_OUTGOING for _ in range(200))


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", children.free_port())) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(children, "SERVER_PORTS", range(taken, taken + 1))

        with pytest.raises(children.ChildFailed, match="no port"):
            children.free_port()


@pytest.mark.skipif(sys.platform != "linux", reason="no socket can hold a port there that another is to listen on")
def test_a_port_is_given_once_before_a_server_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `up` chooses the API's port ten seconds before the API listens, while other programs choose theirs."""
    few = range(children.SERVER_PORTS.start, children.SERVER_PORTS.start + 40)
    monkeypatch.setattr(children, "SERVER_PORTS", few)
    given = [children.free_port() for _ in range(25)]  # of so few that chance would give one twice
    assert len(set(given)) == 25
    ask = f"from reindexer.embedded import children; children.SERVER_PORTS = {few}; print(children.free_port())"
    for _ in range(5):
        other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        assert int(other.stdout) not in given
    for port in given:
        socket.create_server(("127.0.0.1", port)).close()
