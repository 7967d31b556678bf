"""docker-compose.yml read as Compose reads it, as far as our file goes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from tests.support.local_services import Service
from tests.support.processes import ROOT

COMPOSE = ROOT / "docker-compose.yml"

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


def our_service(name: str, variables: Mapping[str, str]) -> Service:
    """One of our services, with values for `${…}`."""
    declared = services()[name]

    def words(command: Sequence[str]) -> list[str]:
        return [interpolated(word, variables) for word in command]

    environment = {key: interpolated(str(value), variables) for key, value in declared["environment"].items()}
    check = declared.get("healthcheck")
    if check is None:
        return Service(words(declared["command"]), environment)
    test, timeout_s = words(health_command(check["test"])), seconds(check["timeout"])
    return Service(words(declared["command"]), environment, test, timeout_s)
