"""A process that has imported what our processes import, and forks to become one: `python -m tests.support.fork_server`.

A worker needs two seconds to import its libraries; a suite that starts hundreds of processes would spend most of its
time so. What is forked is a process of its own in every other way: its session, environment, folder, output, arguments;
it runs the module that it is asked for as `python -m` does, and none of our modules that reads settings when it is
imported has been imported before.

Reads a line of JSON for each process from the socket that is its standard input, answers with the process' id, and tells
there when one has ended. It ends when the socket does. Listens on another socket, whose number is its argument, for
`tests.support.forked`, which is told how its process ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import IO, Any

LIBRARIES = (
    "alembic.command", "billiard.pool", "celery.apps.worker", "celery.backends.redis", "celery.bin.celery", "celery.concurrency.prefork",
    "celery.concurrency.solo", "celery.concurrency.thread", "celery.events.snapshot", "celery.worker.autoscale",
    "celery.worker.components", "celery.worker.consumer", "celery.worker.strategy", "fastapi", "kombu.transport.redis",
    "numpy", "openai.resources.embeddings", "psycopg_pool", "pydantic_settings", "qdrant_client.http", "rich.console",
    "typer", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.main", "uvicorn.protocols.http.auto",
)  # fmt: skip
OURS = (
    "reindexer.adapters.broker.celery_broker", "reindexer.adapters.broker.heartbeats", "reindexer.adapters.embedders.openai",
    "reindexer.adapters.qdrant.index", "reindexer.cli", "reindexer.listener.leader", "reindexer.migrate", "reindexer.wiring", "api.routes", "api.metrics_endpoint", "api.problems",
)  # fmt: skip
"""Without those that read settings when they are imported: `reindexer.celery_app`, and what imports it."""


class Asking:
    """Those that wait for a process of theirs to end (`tests.support.forked`), by its id."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self._waiting: dict[int, socket.socket] = {}

    def sockets(self) -> list[socket.socket]:
        """What may have something to read."""
        return [self.listening, *self._waiting.values()]

    def accept(self) -> tuple[socket.socket, dict[str, Any]]:
        """The next one, and what it wants."""
        connection, _ = self.listening.accept()
        size, files, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb", buffering=0) as stream:
            data = b""
            while len(data) < int.from_bytes(size, "big"):
                data += stream.read(int.from_bytes(size, "big") - len(data))
        return connection, {**json.loads(data), "files": files}

    def began(self, connection: socket.socket, pid: int) -> None:
        """Its process."""
        self._waiting[pid] = connection

    def went(self, connection: socket.socket) -> None:
        """It has been killed; so is what it waits for."""
        for pid in [pid for pid, each in self._waiting.items() if each is connection]:
            os.kill(pid, signal.SIGKILL)
            self._waiting.pop(pid).close()

    def ended(self, pid: int, code: int) -> bool:
        """True if it was one of these."""
        connection = self._waiting.pop(pid, None)
        if connection is None:
            return False
        with connection, suppress(OSError):
            connection.sendall(str(code).encode())
        return True


def serve(control: socket.socket, asking: Asking) -> dict[str, Any]:
    """Fork for each request. Returns in the new process, with what it was asked to be."""
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return pid

    unread = b""
    while True:
        wakeful: list[Any] = [control, woken, *asking.sockets()]
        for ready in select.select(wakeful, [], [])[0]:
            if ready == woken:
                os.read(woken, 4096)
                _tell_ends(control, asking)
            elif ready is asking.listening:
                connection, wanted = asking.accept()
                if (pid := fork()) == 0:
                    return wanted
                asking.began(connection, pid)
                for file in wanted["files"]:
                    os.close(file)
            elif ready is not control:
                asking.went(ready)
            else:
                data = control.recv(65536)
                if not data:
                    os._exit(0)
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    if (pid := fork()) == 0:
                        asked: dict[str, Any] = json.loads(line)
                        return asked
                    control.sendall(json.dumps({"began": pid}).encode() + b"\n")


def _tell_ends(control: socket.socket, asking: Asking) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        if not asking.ended(pid, code):
            control.sendall(json.dumps({"ended": pid, "code": code}).encode() + b"\n")


def _output(wanted: dict[str, Any]) -> list[int]:
    """Files for standard input, output and errors: given ones, or nothing and a log."""
    if "files" in wanted:
        files: list[int] = wanted["files"]
        return files
    output = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    return [os.open(os.devnull, os.O_RDONLY), output, output]


def _open(number: int, mode: str) -> IO[Any]:
    return os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False)


def become(wanted: dict[str, Any]) -> None:
    """Put all in place that `subprocess.Popen` would, and run the module."""
    os.setsid()
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    for target, source in enumerate(_output(wanted)):
        os.dup2(source, target)
    os.closerange(3, 64)
    sys.stdin = _open(0, "r")
    sys.stdout = _open(1, "w")
    sys.stderr = _open(2, "w")
    random.seed()
    sys.argv = [wanted["module"], *wanted["arguments"]]
    sys.path[0] = wanted["cwd"]
    runpy.run_module(wanted["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for each in (*LIBRARIES, *OURS):
        importlib.import_module(each)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as the_control:
        the_wanted = serve(the_control, Asking(socket.socket(fileno=int(sys.argv[1]))))
    become(the_wanted)
