"""The data directory of an embedded stack. `reindexer.running_stack` finds the stack that runs there."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from reindexer.core.errors import ReindexerError
from reindexer.core.posix import require_posix, user_id
from reindexer.running_stack import LOCK, STATE, running_stack


class AlreadyUp(ReindexerError):
    """Another `up` runs with this data directory."""


class DataDirectory:
    """One data directory. The process that holds its lock runs the stack; the lock ends with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / STATE
        self._ports = path / "ports.json"
        self._lock: IO[str] | None = None

    @property
    def key_file(self) -> Path:
        """The file with the admin key."""
        return self.path / "admin.key"

    def take(self) -> None:
        """Create the directory and take its lock. Raises AlreadyUp, and UsageError on Windows."""
        require_posix()  # guard windows-embedded-refusal
        self.path.mkdir(parents=True, exist_ok=True)
        # As root, Postgres runs as another user and has to reach its own folder in here.
        self.path.chmod(0o755 if user_id() == 0 else 0o700)
        lock = (self.path / LOCK).open("a+", encoding="utf-8")
        if not _locked(lock):
            lock.close()
            running = self.running() or {}
            raise AlreadyUp(
                f"it is up already (pid {running.get('pid', '?')}, {running.get('api', 'starting')}) with the data in "
                f"{self.path}; end it with `reindexer down`, or choose another --data-dir"
            )
        self._lock = lock

    def release(self) -> None:
        """Release the lock, and remove the state file."""
        self._state.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_state(self, state: Mapping[str, object]) -> None:
        """Publish the state for other commands. Owner-readable only: it may hold a database URL with its password."""
        draft = self._state.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(state), encoding="utf-8")
        draft.rename(self._state)

    def running(self) -> dict[str, str] | None:
        """The state of the running stack; None if none runs."""
        return running_stack(self.path)

    def last_ports(self) -> dict[str, int]:
        """The servers' ports of the last run, by server name."""
        try:
            ports: dict[str, int] = json.loads(self._ports.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return ports

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        """Keep ports for the next run, so that URLs that are written down elsewhere stay right."""
        self._ports.write_text(json.dumps({**self.last_ports(), **ports}), encoding="utf-8")

    def admin_key(self) -> str:
        """The admin key of this directory, generated at the first call."""
        if not self.key_file.exists():
            self.key_file.touch(mode=0o600)
            self.key_file.write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")
        return self.key_file.read_text(encoding="utf-8").strip()


def _locked(lock: IO[str]) -> bool:
    """Take the lock. Other commands hold it, shared, for a moment to see what runs; so one refusal means nothing."""
    import fcntl

    for _ in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False
