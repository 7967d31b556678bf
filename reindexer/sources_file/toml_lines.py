"""On which line of a TOML document each of its keys is written: what tomllib forgets, and errors want to tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str, ...]

_TOKEN = re.compile(
    r"""
    \#[^\n]*                                  # a comment
    | \"{3} (?: [^\\] | \\. )*? \"{3,5}        # strings: of several lines,
    | '{3} .*? '{3,5}
    | \" (?: [^"\\\n] | \\. )* \"              # and of one
    | ' [^'\n]* '
    | [\[\]{}\n]
    """,
    re.VERBOSE | re.DOTALL,
)
"""What decides where a value ends: what is within comments and strings does not."""

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
    text = text.replace("\r\n", "\n")
    line, begin = 1, 0
    for end in _ends(text):
        statement = text[begin:end]
        try:
            says_something = bool(tomllib.loads(statement))
        except tomllib.TOMLDecodeError:
            break
        if says_something:
            yield line, statement
        line += statement.count("\n") + 1
        begin = end + 1
    if begin < len(text) and _says_something(text[begin:]):
        yield line, text[begin:]


def _ends(text: str) -> Iterator[int]:
    """Where a line ends that is within no value: behind each statement of a valid document, and at its end."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            yield token.start()
    yield len(text)


def _says_something(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return True


def _paths(table: Mapping[str, Any], depth: int = 1) -> Iterator[KeyPath]:
    for key, value in table.items():
        yield (key,)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and depth < MAX_DEPTH:
                yield from ((key, *path) for path in _paths(each, depth + 1))
