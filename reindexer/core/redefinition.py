"""What differs between two definitions of a source, in the words of the sources file and of `attach`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reindexer.core.source import Source

_COLUMNS = {
    "key": "key_columns", "text": "text_columns", "template": "template", "payload": "payload_columns",
    "where": "condition", "alias": "alias", "chunk_tokens": "chunk_tokens", "chunk_overlap": "chunk_overlap",
    "tenant": "tenant_column",
}  # fmt: skip

MOVING = frozenset({"table", "key", "text", "where"})
"""Keys whose change can let rows enter or leave the index. Others change what is stored of a row that is in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key of a definition. None: not set."""

    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{_shown(self.before)} → {_shown(self.after)}"


def changes(before: Source | None, after: Source) -> Mapping[str, Change]:
    """The keys that differ, in the order of the documentation; all that are set, where there was no source."""
    was, now = described(before) if before else {}, described(after)
    both = {key: Change(was.get(key), now.get(key)) for key in dict.fromkeys(["table", *_COLUMNS, *now, *was])}
    return {key: change for key, change in both.items() if change.before != change.after}


def described(source: Source) -> dict[str, Any]:
    """A definition by its keys, without those that are not set; a profile by its parts, `profile.model`."""
    told: dict[str, Any] = {"table": f"{source.table_schema}.{source.table_name}"}
    for key, attribute in _COLUMNS.items():
        value = getattr(source, attribute)
        told[key] = list(value) if isinstance(value, tuple) else value
    told |= {f"profile.{part}": value for part, value in source.profile.as_json().items()}
    return {key: value for key, value in told.items() if value not in (None, [], 0)}


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
