"""A process that has imported what our processes import, and forks to become one: `python -m tests.support.fork_server`.

A worker needs two seconds to import its libraries; a suite that starts hundreds of processes would spend most of its
time so. What is forked is a process of its own in every other way: its session, environment, folder, output, arguments;
it runs the module that it is asked for as `python -m` does, and none of our modules that reads settings when it is
imported has been imported before.

Reads a line of JSON for each process from the socket that is its standard input, answers with the process' id, and tells
there when one has ended. It ends when the socket does.
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
from typing import IO, Any

LIBRARIES = (
    "billiard.pool", "celery.apps.worker", "celery.backends.redis", "celery.bin.celery", "celery.concurrency.prefork",
    "celery.concurrency.solo", "celery.concurrency.thread", "celery.events.snapshot", "celery.worker.autoscale",
    "celery.worker.components", "celery.worker.consumer", "celery.worker.strategy", "fastapi", "kombu.transport.redis",
    "numpy", "openai.resources.embeddings", "psycopg_pool", "pydantic_settings", "qdrant_client.http", "rich.console",
    "typer", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.main", "uvicorn.protocols.http.auto",
)  # fmt: skip
OURS = (
    "reindexer.adapters.celery_broker", "reindexer.adapters.celery_beats", "reindexer.adapters.openai_embedder",
    "reindexer.adapters.qdrant_index", "reindexer.leader", "reindexer.wiring", "api.routes", "api.scrape", "api.problems",
)  # fmt: skip
"""Without those that read settings when they are imported: `reindexer.celery_app`, and what imports it."""


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each request. Returns in the new process, with what it was asked to be."""
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    unread = b""
    while True:
        for ready in select.select([control.fileno(), woken], [], [])[0]:
            if ready == woken:
                os.read(woken, 4096)
                _tell_ends(control)
                continue
            data = control.recv(65536)
            if not data:
                os._exit(0)
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(woken)
                    os.close(wakes)
                    wanted: dict[str, Any] = json.loads(line)
                    return wanted
                control.sendall(json.dumps({"began": pid}).encode() + b"\n")


def _tell_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.sendall(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _open(number: int, mode: str) -> IO[Any]:
    return os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False)


def become(wanted: dict[str, Any]) -> None:
    """Put all in place that `subprocess.Popen` would, and run the module."""
    os.setsid()
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    output = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
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
        the_wanted = serve(the_control)
    become(the_wanted)
