"""Finds the line of each key in a TOML document: tomllib does not keep it, and error messages name it."""

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
"""The tokens that decide where a value ends. Brackets and line ends in comments and strings do not count."""

MAX_DEPTH = 16
"""Deeper keys are left out."""


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of each key of a valid document, by its path of keys. Tables are keys, too.

    tomllib itself reads the statements, one by one: each ends at the first line with which it parses. So a key inside a
    multi-line value gets the line where that value's statement begins.
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
    """Each statement with its first line. The last one may be unfinished or wrong, and then extends to the end."""
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
    """The ends of lines that are outside of values: after each statement of a valid document, and at its end."""
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
