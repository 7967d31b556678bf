"""How a process finds the stack that `reindexer up` runs on this machine, and reaches its servers.

A developer's environment, made for other servers, must not disturb the connections to them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from reindexer.core.posix import user_id

MAX_PATH = 80
"""In characters. Postgres' socket and Redis' files need a short path."""
LOCK = "lock"
"""The file of a data directory that the process of its stack locks."""
STATE = "up.json"
"""The file in which that process publishes the state."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def default_directory() -> Path:
    """A short path without spaces, whatever the paths of the checkout and the home are; one per user."""
    if user_id() == 0:
        return Path("/var/lib/reindexer")
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "reindexer"
    if " " not in str(home) and len(str(home)) <= MAX_PATH:
        return home
    return Path(tempfile.gettempdir()) / f"reindexer-{user_id()}"


def running_stack(directory: Path) -> dict[str, str] | None:
    """The state of the stack that runs in this data directory; None if none runs (a crash leaves a state file without a
    lock)."""
    try:
        import fcntl
    # guard windows-missing-file-locks
    except ImportError:  # Windows, where nothing is up
        return None
    try:
        with (directory / LOCK).open("a+", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        state: dict[str, str] = json.loads((directory / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state


def libpq_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that make libpq connect otherwise than a URL says (PGSERVICE, PGSSLMODE, PGHOSTADDR, PGOPTIONS, …)."""
    return sorted(name for name in environment if name.startswith("PG"))


def reach_own_servers(environment: MutableMapping[str, str] = os.environ, *, postgres: bool) -> None:
    """Exempt loopback from proxies. If `postgres` (the server is an embedded one), also remove libpq's variables, so
    that its URL alone decides."""
    for name in ("NO_PROXY", "no_proxy"):
        spared = [host for host in environment.get(name, "").split(",") if host]
        environment[name] = ",".join([*spared, *(host for host in LOOPBACK if host not in spared)])
    if postgres:
        for name in libpq_variables(environment):
            del environment[name]
