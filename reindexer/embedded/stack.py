"""The embedded stack: Postgres, Redis and Qdrant unless real ones are given, then the commands of production."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

import reindexer
from reindexer.embedded.children import Child, Children, accepts, wait_until_ready
from reindexer.embedded.older_index import is_to_be_filled_anew
from reindexer.embedded.postgres import start_postgres, wheel_directory
from reindexer.embedded.redis import start_redis
from reindexer.embedded.supervisor import Supervisor
from reindexer.running_stack import reach_own_servers

DATABASE = "reindexer"

PYTHON = (sys.executable, "-P")
"""`-P` excludes the working directory's modules: a package `api` or a file `redis.py` there is somebody else's."""

Commands = Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class Stack:
    """Starts servers and roles under one supervisor. `given`: the real servers, by setting; `ports`: where each of the
    others listens."""

    directory: Path
    children: Children
    supervisor: Supervisor
    given: Mapping[str, str]
    ports: Mapping[str, int]
    env: dict[str, str] = field(default_factory=dict)
    index_was_older: bool = False
    """Whether the folder held an older version's index, which can't be read any more."""

    def start_servers(self) -> None:
        """Start the servers that are not given. Then `env` names all three. Raises ChildFailed or UsageError."""
        reach_own_servers(postgres="DATABASE_URL" not in self.given)
        self.env = {**os.environ, **self.given, "PYTHONPATH": _python_path()}
        if "DATABASE_URL" not in self.given:
            self._start_postgres(self.ports["postgres"])
        if "CELERY_BROKER_URL" not in self.given:
            self._start_redis(self.ports["redis"])
        if "QDRANT_URL" not in self.given:
            self._start_qdrant(self.ports["qdrant"])

    def start_roles(self, host: str, port: int, *, without: str | None = None) -> None:
        """Start listener, worker and API as in production. `without`: one to leave out (to show that it is needed)."""
        commands: Commands = {
            "listener": ("listen",),
            "worker": ("worker", "-c", "2", "--without-mingle", "--without-gossip", "-n", f"up-{os.getpid()}@%h"),
            "api": ("api", "--host", host, "--port", str(port)),
        }
        for name, command in commands.items():
            if name != without:
                self.supervisor.run(name, self._starter(name, command))

    def _starter(self, name: str, command: tuple[str, ...]) -> Callable[[], Child]:
        return lambda: self.children.start(name, [*PYTHON, "-m", "reindexer", *command], env=self.env)

    def _start_postgres(self, port: int) -> None:
        def start() -> Child:
            return start_postgres(self.children, self.directory / "postgres", port=port).child

        self.supervisor.run("postgres", start)
        admin = f"postgresql://postgres@127.0.0.1:{port}"
        with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")
        self.env["DATABASE_URL"] = f"{admin}/{DATABASE}"

    def _start_redis(self, port: int) -> None:
        self.supervisor.run("redis", lambda: start_redis(self.children, self.directory, port=port).child)
        self.env["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{port}/0"

    def _start_qdrant(self, port: int) -> None:
        module = ("-m", "reindexer.embedded.qdrant_server", "--port", str(port), "--path")
        wheel_directory("qdrant_edge")
        folder = self.directory / "qdrant"
        command = [*PYTHON, *module, str(folder)]
        self.index_was_older = is_to_be_filled_anew(folder)

        def start() -> Child:
            child = self.children.start("qdrant", command, env=self.env)
            wait_until_ready(child, lambda: accepts(port), within_s=30)
            return child

        self.supervisor.run("qdrant", start)
        self.env["QDRANT_URL"] = f"http://127.0.0.1:{port}"


def _python_path() -> str:
    """PYTHONPATH with this program's location before all others: a checkout need not be installed."""
    ours = str(Path(reindexer.__file__).parents[1])
    asked = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    installed = sysconfig.get_paths()["purelib"] == ours
    return os.pathsep.join(asked if installed or ours in asked[:1] else [ours, *asked])
