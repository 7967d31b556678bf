"""Services of a deployment (docker-compose.yml, deploy/kubernetes) run as children of this process, without containers: with
exactly their commands, their environment and their health checks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reindexer.embedded.children import Child, Children

API_PORT = "8000"


@dataclass(frozen=True, slots=True)
class Service:
    """What a file says of one service, its variables put in."""

    command: Sequence[str]
    environment: Mapping[str, str]
    check: Sequence[str] = ()
    """The command of its health check; none for what ends by itself, or is asked over HTTP."""
    check_timeout_s: float = 0


@dataclass(slots=True)
class LocalServices:
    """Runs them. `rewritten` replaces what names servers, which are not where the file has them; `port` is the API's."""

    children: Children
    services: Mapping[str, Service]
    rewritten: Mapping[str, str]
    port: int
    directory: Path
    """As the image's working directory: nothing else may be found because of where a command is started."""
    running: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str) -> Child:
        """The service's command."""
        command = self._ours(name, self.services[name].command)
        child = self.children.start(name, command, env=self.environment(name), cwd=self.directory)
        self.running[name] = child
        return child

    def healthy(self, name: str) -> bool:
        """One run of the service's health check, with its timeout."""
        service = self.services[name]
        return self.succeeds(name, service.check, service.check_timeout_s)

    def succeeds(self, name: str, command: Sequence[str], timeout_s: float) -> bool:
        """Whether a command in the service's environment ends with exit code 0 in time."""
        environment = self.environment(name)
        try:
            done = subprocess.run(
                self._ours(name, command), env=environment, cwd=self.directory, capture_output=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def environment(self, name: str) -> dict[str, str]:
        """The service's variables and the image's, nothing of this process; programs come from this venv first."""
        ours = self.services[name].environment
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        unknown = self.rewritten.keys() - ours.keys()
        assert not unknown, f"{name} has no {unknown}"
        return {"PATH": path, "PYTHONUNBUFFERED": "1", **ours, **self.rewritten}

    def _ours(self, name: str, command: Sequence[str]) -> list[str]:
        if name != "api":
            return list(command)
        assert any(API_PORT in word for word in command), command
        return [word.replace(API_PORT, str(self.port)) for word in command]
