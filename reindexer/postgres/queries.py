"""Loads the named queries of the .sql files beside this module.

A query starts at a line `-- name: its_name` and ends at the next one. Text before the first is the file's comment.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(filename: str) -> dict[str, LiteralString]:
    """All queries of one file by name. They are part of the program, so they count as literal strings."""
    text = files("reindexer.postgres").joinpath("sql", filename).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}
