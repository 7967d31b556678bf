"""A TOML document that knows the line of each key."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reindexer.core.errors import DefinitionError, UsageError
from reindexer.sources_file.toml_lines import KeyPath, lines_of_keys, statements

DEFAULT = Path("reindexer.toml")

MAX_BYTES = 1 << 20
"""A larger file is not the sources file."""

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_LONG_NUMBER = re.compile(r"[0-9_]{4300}")
_HINTS = {
    "Invalid value": "text stands in quotes",
    "Unclosed array": "is a quote, a comma or ] missing?",
    "Cannot overwrite a value": "the key stands there twice",
    "Cannot declare": "write all of a table under one header",
}


@dataclass(frozen=True)
class Document:
    """A parsed file. `name`: the file's name as the user wrote it."""

    name: str
    text: str
    data: Mapping[str, Any]

    @cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return lines_of_keys(self.text)

    def at(self, path: KeyPath) -> str:
        """`reindexer.toml:12`: the place of a key, or of the innermost table that should hold it."""
        for depth in range(len(path), 0, -1):
            if line := self._lines.get(path[:depth]):
                return f"{self.name}:{line}"
        return f"{self.name}:1"

    def wrong(self, path: KeyPath, words: str) -> DefinitionError:
        """An error about a key. `words` continue after the key's name."""
        return DefinitionError(f"{self.at(path)}: {dotted(path)} {words}")


def dotted(path: KeyPath) -> str:
    """The keys as TOML writes them, each shortened to 60 characters."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else json.dumps(key[:60]) for key in path)


def read_document(named: Path | None) -> Document | None:
    """Read the named file, else `reindexer.toml` in the working directory; None if there is neither.

    Raises UsageError if the file can't be read, or is not TOML.
    """
    path = named or DEFAULT
    if named is None and not os.path.lexists(path):
        return None
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as exc:
        what = "REINDEXER_SOURCES names" if named else "there is"
        raise UsageError(f"{path}: {what} a sources file that can't be read: {exc.strerror}") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MB; is it the sources file?")
    try:
        text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: this is not UTF-8; save the file in that encoding") from None
    return parse_document(str(path), text)


def parse_document(name: str, text: str) -> Document:
    """Raises UsageError that names the line if the text is not TOML."""
    try:
        return Document(name, text, tomllib.loads(text + "\n"))  # so that an error in the last line has a line
    except tomllib.TOMLDecodeError as exc:
        line, words = _told(str(exc), text)
        raise UsageError(f"{name}:{line}: {words}") from None
    except RecursionError:
        raise UsageError(f"{name}: lists or tables in it nest too deeply") from None
    except ValueError:  # Python's own bound
        line = next((number for number, each in enumerate(text.split("\n"), 1) if _LONG_NUMBER.search(each)), 1)
        raise UsageError(f"{name}:{line}: a number has too many digits") from None


def _told(message: str, text: str) -> tuple[int, str]:
    """Line and words for an error of tomllib. An unfinished value is reported where it begins."""
    what = _PLACE.sub("", message)
    place = _PLACE.search(message)
    hint = next((f"; {hint}" for begin, hint in _HINTS.items() if what.startswith(begin)), "")
    if place and place[1]:
        return int(place[1]), f"not TOML at column {place[2]}: {what}{hint}"
    *_, (line, _) = [(1, ""), *statements(text)]
    return line, f"not TOML: {what}; what begins here is not finished"
