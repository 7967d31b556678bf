"""docker-compose.yml read as Compose reads it, as far as our file goes; and its services run without Docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from reindexer.embedded.children import Child, Children
from tests.support.processes import ROOT

COMPOSE = ROOT / "docker-compose.yml"
API_PORT = "8000"

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:-|:\?)(?P<text>[^}]*))?\})")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@cache
def compose() -> Mapping[str, Any]:
    """The file with its anchors and merges resolved, `${…}` as written."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def services() -> Mapping[str, Mapping[str, Any]]:
    """Every service by name."""
    found: Mapping[str, Mapping[str, Any]] = compose()["services"]
    return found


def interpolated(value: str, variables: Mapping[str, str]) -> str:
    """`$$`, `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as Compose does it."""

    def replacement(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        given = variables.get(found["name"], "")
        if not given and found["how"] == ":?":
            raise KeyError(f"{found['name']}: {found['text']}")
        return given or (found["text"] or "" if found["how"] == ":-" else "")

    return _VARIABLE.sub(replacement, value)


def seconds(duration: str) -> float:
    """`1m30s` in seconds."""
    return sum(float(amount) * _SECONDS[unit] for amount, unit in re.findall(r"([\d.]+)(ms|s|m)", duration))


def health_command(test: Sequence[str]) -> list[str]:
    """What Docker executes for a `healthcheck.test`."""
    kind, *rest = test
    if kind == "CMD-SHELL":
        return ["/bin/sh", "-c", *rest]
    assert kind == "CMD", test
    return rest


@dataclass(slots=True)
class LocalServices:
    """Runs services as Compose would, as children of this process: the same commands, the same environment.

    `variables` are for `${…}`; `rewritten` replaces what names servers, which are not where Compose has them; `port` is
    the API's.
    """

    children: Children
    variables: Mapping[str, str]
    rewritten: Mapping[str, str]
    port: int
    directory: Path
    """Empty, as the image's working directory: nothing may be found because of where a command is started."""
    running: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str) -> Child:
        """The service's `command`."""
        command = self._ours(name, services()[name]["command"])
        child = self.children.start(name, command, env=self.environment(name), cwd=self.directory)
        self.running[name] = child
        return child

    def healthy(self, name: str) -> bool:
        """One run of the service's `healthcheck.test`, with its timeout."""
        check = services()[name]["healthcheck"]
        command = self._ours(name, health_command(check["test"]))
        environment, timeout_s = self.environment(name), seconds(check["timeout"])
        try:
            done = subprocess.run(
                command, env=environment, cwd=self.directory, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def environment(self, name: str) -> dict[str, str]:
        """The service's variables and the image's, nothing of this process; programs come from this venv first."""
        declared = {key: str(value) for key, value in services()[name]["environment"].items()}
        ours = {key: interpolated(value, self.variables) for key, value in declared.items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        unknown = self.rewritten.keys() - ours.keys()
        assert not unknown, f"{name} has no {unknown}"
        return {"PATH": path, "PYTHONUNBUFFERED": "1", **ours, **self.rewritten}

    def _ours(self, name: str, command: Sequence[str]) -> list[str]:
        words = [interpolated(word, self.variables) for word in command]
        if name == "api":
            assert any(API_PORT in word for word in words), words
            words = [word.replace(API_PORT, str(self.port)) for word in words]
        return words
