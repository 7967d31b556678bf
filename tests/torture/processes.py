"""The cast: our processes. They are killed, stopped and started again, and so is one that ends by itself."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import psutil

from reindexer.embedded.children import Child, free_port, wait_until_ready
from reindexer.testing.processes import LISTENER, api_command, log_of, worker_command
from tests.support.processes import ROOT
from tests.torture.environment import Stage, grpc_environment

READY_S = 60.0


class Cast:
    """Processes by name. Not for use by several threads."""

    def __init__(self, stage: Stage, seed: str, generations_of: str) -> None:
        """`generations_of`: the source whose generations are changed. Some seeds have no time for a way back."""
        self._stage = stage
        self.actor_journal = stage.directory / "actor.journal"
        standby_for_s = random.Random(f"{seed}/standby").choice(["2", "6", "3600"])
        self._of_actor = {
            "REINDEXER_SOURCES": str(stage.directory / "profiles.toml"), "REINDEXER_STANDBY_FOR_S": standby_for_s,
        }  # fmt: skip
        self.api_port = free_port()
        self._commands = {
            "listener-0": LISTENER,
            "listener-1": LISTENER,
            "worker-prefork": worker_command("-n", "prefork@%h", pool="prefork", concurrency=2),
            "worker-threads": worker_command("-n", "threads@%h", pool="threads", concurrency=4),
            "worker-solo": worker_command("-n", "solo@%h", pool="solo", concurrency=1),
            "api": api_command(self.api_port),
            "actor": [
                sys.executable, "-m", "tests.torture.actor", f"--seed={seed}", f"--source={generations_of}",
                f"--journal={self.actor_journal}",
            ],
        }  # fmt: skip
        self._running: dict[str, Child] = {}
        self._down: set[str] = set()
        self._starts = 0
        self.ended: list[str] = []
        """Those that ended by themselves, with their last words."""

    @property
    def names(self) -> Sequence[str]:
        """All roles."""
        return list(self._commands)

    def start_all(self) -> None:
        """Start all, and wait until they work."""
        for name in self._commands:
            self.start(name)
        self.wait_until_ready()

    def start(self, name: str) -> None:
        """Start one; returns at once."""
        self._down.discard(name)
        self._starts += 1
        extra = grpc_environment(self._stage) if name in ("worker-prefork", "worker-solo") else {}
        if name == "actor":
            extra = self._of_actor
        self._running[name] = self._stage.children.start(
            f"{name}.{self._starts}", self._commands[name], env={**self._stage.env, **extra}, cwd=ROOT
        )

    def start_stranger(self) -> Child:
        """A worker whose environment names another model; not one of the cast, so it is killed and not missed."""
        self._starts += 1
        command = worker_command("-n", f"stranger-{self._starts}@%h", pool="solo", concurrency=1)
        env = {**self._stage.env, "REINDEXER_EMBEDDER": "hashing"}
        return self._stage.children.start(f"stranger.{self._starts}", command, env=env, cwd=ROOT)

    def kill_stranger(self, child: Child) -> None:
        """SIGKILL."""
        self._stage.children.kill(child)

    def kill(self, name: str) -> None:
        """SIGKILL to the process and its pool; it stays down until `start`."""
        self._down.add(name)
        self._stage.children.kill(self._running[name])

    def kill_pool_child(self, name: str, rng: random.Random) -> None:
        """SIGKILL to one process of its pool."""
        with suppress(psutil.Error):
            children = psutil.Process(self._running[name].process.pid).children()
            if children:
                rng.choice(children).kill()

    def signal(self, name: str, signum: signal.Signals) -> None:
        """To the process and its pool."""
        with suppress(ProcessLookupError):
            os.killpg(self._running[name].process.pid, signum)

    def supervise(self) -> None:
        """Start again whatever ended by itself, as an operator's supervisor does."""
        for name, child in list(self._running.items()):
            if name not in self._down and not child.running():
                self.ended.append(f"{child.name} ended with code {child.process.returncode}: {child.last_lines(5)}")
                self._stage.children.kill(child)
                self.start(name)

    def wait_until_ready(self) -> None:
        """Until all say that they work."""
        for name in self._commands:
            wait_until_ready(self._running[name], partial(_works, name, self._running[name]), within_s=READY_S)


def _works(name: str, child: Child) -> bool:
    told = {
        "listener": ("leadership_acquired", "leadership_awaited", "draining_started"),
        "worker": (" ready.",),
        "api": ("running on",),
        "actor": ("actor begins",),
    }
    return any(words in log_of(child) for words in told[name.partition("-")[0]])
