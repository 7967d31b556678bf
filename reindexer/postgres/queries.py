"""Loads the named queries of the .sql files beside this module.

A query starts at a line `-- name: its_name` and ends at the next one. Text before the first is the file's comment.
A comment `-- guard its-name` marks a line that `make sabotage` removes. The comment does not reach Postgres: adding or
removing one would otherwise change a trigger's function.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_GUARD = re.compile(r"^ *-- guard [a-z0-9, -]+\n| *-- guard [a-z0-9, -]+$", re.MULTILINE)


@cache
def load(filename: str) -> dict[str, LiteralString]:
    """All queries of one file by name. They are part of the program, and count as literal strings."""
    text = files("reindexer.postgres").joinpath("sql", filename).read_text(encoding="utf-8")
    parts = _NAME.split(_GUARD.sub("", text))[1:]
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}
