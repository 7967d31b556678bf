"""Servers of their own for tests and benchmarks, from the extra `embedded`."""

from __future__ import annotations

import sys
from pathlib import Path

from reindexer.embedded.children import Child, Children, accepts, free_port, wait_until_ready


def start_qdrant(children: Children) -> str:
    """The embedded Qdrant server, in memory; returns its URL."""
    port = free_port()
    start_qdrant_at(children, port, None)
    return f"http://127.0.0.1:{port}"


def start_qdrant_at(children: Children, port: int, path: Path | None) -> Child:
    """The embedded Qdrant server over a folder, or in memory."""
    where = ["--memory"] if path is None else ["--path", str(path)]
    child = children.start(
        "qdrant", [sys.executable, "-m", "reindexer.embedded.qdrant_server", "--port", str(port), *where]
    )
    wait_until_ready(child, lambda: accepts(port), within_s=30)
    return child
