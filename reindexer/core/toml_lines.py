"""On which line of a TOML document each of its keys is written: what tomllib forgets, and errors want to tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str, ...]

MAX_DEPTH = 16
"""Keys that lie deeper are left out."""


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of each key of a valid document, by the keys that lead to it. Tables are keys too.

    tomllib itself reads the statements, one by one: each ends with the first line with which it can be read. So a key
    that stands within a value of several lines is on the line where that value's statement begins.
    """
    found: dict[KeyPath, int] = {}
    header: KeyPath = ()
    for line, statement in statements(text):
        read = tomllib.loads(statement)
        if statement.lstrip(" \t").startswith("["):
            header = max(_paths(read), key=len)
            paths = [header[:depth] for depth in range(1, len(header) + 1)]
        else:
            paths = [header + path for path in _paths(read)]
        for path in paths:
            found.setdefault(path, line)
    return found


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with its first line; the last one may be unfinished or wrong, and then reaches to the end."""
    begun: list[str] = []
    lines = text.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        begun.append(line)
        statement = "\n".join(begun)
        try:
            says_something = bool(tomllib.loads(statement))
        except tomllib.TOMLDecodeError:
            continue
        if says_something:
            yield number - len(begun) + 1, statement
        begun = []
    if begun:
        yield len(lines) - len(begun) + 1, "\n".join(begun)


def _paths(table: Mapping[str, Any], depth: int = 1) -> Iterator[KeyPath]:
    for key, value in table.items():
        yield (key,)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and depth < MAX_DEPTH:
                yield from ((key, *path) for path in _paths(each, depth + 1))
