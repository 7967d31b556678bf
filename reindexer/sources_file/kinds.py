"""The kinds of values in the sources file. A wrong value raises Unfit; its text continues after the key's name.

Messages do not show values: a value may be a secret in the wrong place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any

from reindexer.core.errors import UsageError
from reindexer.core.urls import is_readable
from reindexer.registry import Registry
from reindexer.sources_file.document import Document, dotted
from reindexer.sources_file.toml_lines import KeyPath

Kind = Callable[[object], Any]

MAX_NUMBER = 2**31 - 1
MAX_DEPTH = 8
MAX_PREFIX = 1000

_SECRET = re.compile(r"api_?key|secret|passw|^(key|token)$", re.I)
_WORDS: dict[type, str] = {
    str: "text", bool: "a boolean", int: "a whole number", float: "a number", list: "a list", dict: "a table",
    datetime: "a date", date: "a date", time: "a time",
}  # fmt: skip


class Unfit(Exception):
    """A value, or the part of it at `path`, is not of the kind that its key takes."""

    def __init__(self, words: str, path: KeyPath = ()) -> None:
        super().__init__(words)
        self.path = path


def what(value: object) -> str:
    """The kind of a value, in words for a message."""
    return _WORDS[type(value)]


def text(value: object) -> str:
    """Text that is not blank."""
    if not isinstance(value, str):
        raise Unfit(f"is {what(value)}; write text in quotes")
    if not value.strip():
        raise Unfit("is empty; write something, or leave the key out")
    if "\0" in value:
        raise Unfit("holds the character NUL, which Postgres does not take")
    return value


def names(value: object) -> tuple[str, ...]:
    """Names of columns: a list, or one text separated by commas as on the command line."""
    if isinstance(value, str):
        return split_names([text(value)])
    if not isinstance(value, list):
        raise Unfit(f'is {what(value)}; write a list of columns, like ["name", "description"]')
    for each in value:
        if not isinstance(each, str):
            raise Unfit(f"holds {what(each)}; write names of columns in quotes")
        if not each.strip():
            raise Unfit("holds an empty name")
        text(each)
    return tuple(value)


def prefix(value: object) -> str:
    """Text that stands in front of another one. A blank at its end is part of it."""
    if len(text(value)) > MAX_PREFIX:
        raise Unfit(f"is too long; write at most {MAX_PREFIX} characters")
    return text(value)


def separator(value: object) -> str:
    """Text that may be blank: what stands between values."""
    if value == "" or (isinstance(value, str) and value.isspace()):
        return value
    return text(value)


def boolean(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Unfit(f"is {what(value)}; write true or false, without quotes")
    return value


def pairs(value: object) -> dict[str, str]:
    """A join: columns of one table, each with the column of the other that it equals."""
    if not isinstance(value, dict):
        raise Unfit(f'is {what(value)}; write {{ column = "column of the other table" }}')
    if not value:
        raise Unfit("is empty; write something, or leave the key out")
    for key, each in value.items():
        try:
            text(each)
        except Unfit as exc:
            raise Unfit(str(exc), (key,)) from None
    return dict(value)


def tables(value: object) -> dict[str, Any]:
    """Tables, each under a name."""
    if not isinstance(value, dict):
        raise Unfit(f"is {what(value)}; write a header of its own for each, with its name as the last part")
    return value


def split_names(options: list[str]) -> tuple[str, ...]:
    """Split names at commas."""
    return tuple(name for option in options for name in (each.strip() for each in option.split(",")) if name)


def whole_number(value: object) -> int:
    """A non-negative number that fits Postgres' integer."""
    if type(value) is not int:
        raise Unfit(f"is {what(value)}; write a whole number, without quotes")
    if not 0 <= value <= MAX_NUMBER:
        raise Unfit(f"is out of range; write a number from 0 to {MAX_NUMBER}")
    return value


def dimensions(value: object) -> int:
    """The number of a vector's dimensions."""
    if not 1 <= whole_number(value) <= 65_536:
        raise Unfit("is out of range; write a number from 1 to 65536")
    return whole_number(value)


def one_of(*choices: str) -> Kind:
    """A kind that accepts only the given words."""

    def kind(value: object) -> str:
        if value not in choices:
            shown = f"is {text(value)[:40]!r}" if isinstance(value, str) and value else f"is {what(value)}"
            raise Unfit(f"{shown}; write {' or '.join(map(repr, choices))}")
        return str(value)

    return kind


def name_of(plugins: Registry) -> Kind:
    """A kind that accepts the names of the registered plug-ins."""

    def kind(value: object) -> str:
        try:
            plugins.require(name := text(value))
        except UsageError as exc:
            problem = "can't be used here" if value in plugins.names() else "is not known"
            raise Unfit(f"{problem}: {exc}") from None
        return name

    return kind


def url(value: object) -> str:
    """An HTTP URL without user and password."""
    if not text(value).startswith(("http://", "https://")) or not is_readable(text(value)):
        raise Unfit("is not a URL that can be read; write https://host/v1")
    if "@" in text(value):
        raise Unfit("holds a user or a password; write neither into the file")
    return text(value)


def environment_name(value: object) -> str:
    """The name of an environment variable. A value that looks like a key itself is refused."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", text(value)):  # guard secret-sources-file-value
        raise Unfit(
            "is no name of an environment variable; set one in the workers' environment and write its name, in "
            "capital letters, not the key itself"
        )
    return text(value)


def parameters(value: object, path: KeyPath = ()) -> Any:
    """Values that JSON and Postgres can hold."""
    if len(path) > MAX_DEPTH:
        raise Unfit("nests too deeply", path)
    if isinstance(value, dict):
        return {key: parameters(each, (*path, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [parameters(each, (*path, str(place))) for place, each in enumerate(value)]
    if isinstance(value, (datetime, date, time)):
        raise Unfit(f"is {what(value)}, which JSON can't hold", path)
    if isinstance(value, (int, float)) and not (math.isfinite(value) and abs(value) <= MAX_NUMBER):
        raise Unfit("is out of range", path)
    if isinstance(value, str) and "\0" in value:
        raise Unfit("holds the character NUL, which Postgres does not take", path)
    return value


def options(value: object) -> Any:
    """A table of values that JSON can hold, without secrets."""
    if not isinstance(value, dict):
        raise Unfit(f"is {what(value)}; write its keys under a header of their own")
    for key in value:
        if _SECRET.search(key):
            raise Unfit(unknown(key, ()), (key,))
    return parameters(value)


def read_table(document: Document, path: KeyPath, raw: object, known: Mapping[str, Kind]) -> dict[str, Any]:
    """The keys of a table, each converted by its kind. Raises UsageError at the first unknown or unfit key."""
    if not isinstance(raw, dict):
        raise document.wrong(path, f"is {what(raw)}; write its keys under [{dotted(path)}]")
    read = {}
    for key, value in raw.items():
        if key not in known:
            raise document.wrong((*path, key), unknown(key, known))
        try:
            read[key] = known[key](value)
        except Unfit as exc:
            raise document.wrong((*path, key, *exc.path), str(exc)) from None
    return read


def unknown(key: str, known: Iterable[str]) -> str:
    """Why an unknown key is refused, and which key may have been meant."""
    if _SECRET.search(key):
        return (
            "is refused: no key or password belongs into this file; write api_key_env in a profile, the name of a "
            "variable in the workers' environment"
        )
    close = alike(key, known)
    return f"is not known; did you mean {close!r}?" if close else f"is not known; known are {', '.join(known)}"


def alike(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelled most like `word`; None if none is close."""
    close = get_close_matches(word.lower(), [each.lower() for each in known], n=1)
    return next((each for each in known if each.lower() in close), None)
