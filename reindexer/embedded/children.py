"""Child processes that never outlive their parent: each leads its own process group, and a guard watches the parent."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from reindexer.core.errors import ReindexerError

STOP_S = 10.0
SERVER_PORTS = range(15_000, 32_000)
"""Below the ports that Linux (32,768 up), macOS and Windows (49,152 up) give to outgoing connections."""
MOST_HELD = 64
"""So many ports are held for servers that do not listen yet."""


class ChildFailed(ReindexerError):
    """A child ended before it was ready, or never got ready."""


class Process(Protocol):
    """The part of `subprocess.Popen` that is used here."""

    pid: int

    @property
    def returncode(self) -> int | Any:
        """The exit code; None while the process runs."""

    def poll(self) -> int | None:
        """The exit code, read anew; None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: signal.Signals) -> None:
        """Send a signal; does nothing if the process has ended."""


@dataclass(slots=True)
class Child:
    """One running child."""

    name: str
    process: Process
    log: Path
    stop_signal: signal.Signals

    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def last_lines(self, count: int = 3) -> str:
        """The last lines of its log, joined into one."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-count:]) or "it wrote nothing"


class Children:
    """Starts children and ends them in reverse order. A context manager; not thread-safe."""

    def __init__(self, log_directory: Path) -> None:
        self._log_directory = log_directory
        self._log_directory.mkdir(parents=True, exist_ok=True)
        self._children: list[Child] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        cwd: Path | None = None,
    ) -> Child:
        """Start a child in its own process group; its output goes to `<name>.log`. `user`: a numeric id (root only)."""
        log = self.log_of(name)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd,
                start_new_session=True, user=user, group=user, extra_groups=None if user is None else [],
            )  # fmt: skip
        return self.adopt(name, process, log, stop_signal)

    def log_of(self, name: str) -> Path:
        """The log file of a child of that name."""
        return self._log_directory / f"{name}.log"

    def adopt(self, name: str, process: Process, log: Path, stop_signal: signal.Signals = signal.SIGTERM) -> Child:
        """Take charge of a process that leads its own process group."""
        child = Child(name, process, log, stop_signal)
        self._tell_guard(process.pid, stop_signal)
        self._children.append(child)
        return child

    def stop(self, child: Child, *, within_s: float = STOP_S) -> int:
        """End a child, with SIGKILL after `within_s`. Returns its exit code."""
        _signal(child)
        return self._wait(child, within_s)

    def kill(self, child: Child) -> None:
        """SIGKILL to the child and its group."""
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        self._forget(child)

    def stop_together(self) -> None:
        """Signal all at once, then wait for each: for peers that don't need one another to end."""
        peers = list(self._children)
        for child in peers:
            _signal(child)
        for child in peers:
            self._wait(child, STOP_S)

    def close(self) -> None:
        """End all, the youngest first, then the guard."""
        for child in reversed(list(self._children)):
            self.stop(child)
        pipe = self._pipe()
        pipe.close()
        self._guard.wait()

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, child: Child, within_s: float) -> int:
        try:
            child.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill(child)
        self._forget(child)
        return child.process.returncode

    def _forget(self, child: Child) -> None:
        if child in self._children:
            self._children.remove(child)
            self._tell_guard(child.process.pid, 0)

    def _tell_guard(self, pid: int, signum: int) -> None:
        pipe = self._pipe()
        pipe.write(f"{pid} {int(signum)}\n".encode())
        pipe.flush()

    def _pipe(self) -> IO[bytes]:
        assert self._guard.stdin is not None
        return self._guard.stdin


def _signal(child: Child) -> None:
    if child.running():
        child.process.send_signal(child.stop_signal)


def wait_until_ready(child: Child, ready: Callable[[], bool], *, within_s: float) -> None:
    """Poll until `ready()`. Raises ChildFailed, with the end of its log, if the child ends or time runs out."""
    until = time.monotonic() + within_s
    while not ready():
        if not child.running():
            raise ChildFailed(f"{child.name} ended with code {child.process.returncode}: {child.last_lines()}")
        if time.monotonic() > until:
            raise ChildFailed(f"{child.name} is not ready after {within_s:.0f} s: {child.last_lines()}")
        time.sleep(0.05)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now, and that nobody else gets who asks in this way before a server listens on it.

    The system gives it to no outgoing connection. This process keeps it bound, without listening: a server that asks to
    reuse the address, as ours all do, can listen there, and another search finds it taken.
    """
    for port in random.SystemRandom().sample(SERVER_PORTS, min(len(SERVER_PORTS), 1000)):
        holder = socket.socket()
        try:
            if sys.platform == "linux":  # elsewhere a second socket may not listen beside it
                holder.bind((host, port))
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            elif _is_bound(host, port):
                raise OSError
        except OSError:
            holder.close()
            continue
        if len(_held) == MOST_HELD:
            os.close(_held.popleft())
        _held.append(holder.detach())  # guard port-held-until-served
        return port
    raise ChildFailed(f"no port of {host} is free between {SERVER_PORTS.start} and {SERVER_PORTS.stop}")


_held: deque[int] = deque()
"""File descriptors of the sockets that hold the ports given last."""


def _is_bound(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return True
        return False


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
