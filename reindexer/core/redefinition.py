"""Differences between two definitions of a source, by the keys of the sources file and of `attach`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reindexer.core.source import SAID, Source, default_of

MOVING = frozenset({"table", "key", "text", "where"})
"""Keys whose change can move rows into or out of the index. Other keys change what is stored for a row in the index."""


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one key. None: not set."""

    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{_shown(self.before)} → {_shown(self.after)}"


def changes(before: Source | None, after: Source) -> Mapping[str, Change]:
    """Return the keys that differ, in the order of the documentation. Without `before`: all keys that are set."""
    was, now = described(before) if before else {}, described(after)
    both = {key: Change(was.get(key), now.get(key)) for key in dict.fromkeys(["table", *SAID, *now, *was])}
    return {key: change for key, change in both.items() if change.before != change.after}


def described(source: Source) -> dict[str, Any]:
    """Return a definition by its keys, without unset ones. A profile is listed by its parts, such as
    `profile.model`."""
    told: dict[str, Any] = {"table": f"{source.table_schema}.{source.table_name}"}
    for key, attribute in SAID.items():
        value = getattr(source, attribute.name)
        if key != "profile" and value != default_of(attribute):
            told[key] = list(value) if isinstance(value, tuple) else value
    return told | {f"profile.{part}": value for part, value in source.profile.as_json().items()}


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
