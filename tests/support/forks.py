"""Our end of `tests.support.fork_server`: one for each process that runs tests, started when it is first needed."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
POLL_S = 0.01


class ForkServer:
    """Starts processes by fork, and knows which have ended."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._directory = Path(tempfile.mkdtemp(prefix="rxf-"))
        self.address = self._directory / "socket"
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.bind(str(self.address))
            asked.listen()
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(asked.fileno())],
                stdin=theirs.fileno(), pass_fds=[asked.fileno()], cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self._control = ours
        self._lines = ours.makefile("rb")
        self._lock = threading.Lock()
        self._began = threading.Condition()
        self._pids: list[int] = []
        self.ended: dict[int, int] = {}
        threading.Thread(target=self._listen, daemon=True, name="fork server").start()

    def start(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path
    ) -> ForkedProcess:
        """Like `python -m module arguments…`, its output appended to a file."""
        wanted = {"module": module, "arguments": [*arguments], "env": dict(env), "cwd": str(cwd), "log": str(log)}
        log.touch()
        with self._lock:
            self._control.sendall(json.dumps(wanted).encode() + b"\n")
            with self._began:
                assert self._began.wait_for(lambda: self._pids, timeout=60)
                return ForkedProcess(self, self._pids.pop())

    def close(self) -> None:
        """It ends with its socket. What it started goes on."""
        self._control.shutdown(socket.SHUT_RDWR)
        self._server.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _listen(self) -> None:
        for line in self._lines:
            told = json.loads(line)
            with self._began:
                if "began" in told:
                    self.ended.pop(told["began"], None)
                    self._pids.append(told["began"])
                    self._began.notify()
                else:
                    self.ended[told["ended"]] = told["code"]


class ForkedProcess:
    """The part of `subprocess.Popen` that is used here."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        """None until it has ended; minus the signal's number if that ended it."""
        return self._server.ended.get(self.pid)

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.returncode) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(POLL_S)
        return code

    def send_signal(self, signum: signal.Signals) -> None:
        """Nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


@cache
def fork_server() -> ForkServer:
    """The one of this process."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def forked_python() -> list[str]:
    """Stands for `python -m` in a command: the module that follows runs in a process that is forked, which saves most of
    a second of imports. Not where the start itself matters."""
    return [sys.executable, "-IS", str(Path(__file__).with_name("forked.py")), str(fork_server().address)]
