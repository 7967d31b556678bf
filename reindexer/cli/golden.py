"""A golden file: queries with the items that a good search finds for them. JSON lines, or TOML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reindexer.core.errors import UsageError
from reindexer.sources.item_ids import MalformedId, canonical_id
from reindexer.sources_file.document import parse_document
from reindexer.sources_file.toml_lines import lines_of_keys, statements

MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Golden:
    """A query of the file, and the ids of the items that it should find."""

    query: str
    expected: tuple[str, ...]


def read_golden(path: Path, key_types: Sequence[str]) -> list[Golden]:
    """Read the file. `key_types`: of the source's key. Raises UsageError that names the line of the first mistake."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"{path}: can't be read: {exc.strerror}") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MB; is it a file of queries?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: this is not UTF-8; save the file in that encoding") from None
    entries = _from_toml(path, text) if path.suffix == ".toml" else _from_json_lines(path, text)
    found = [_golden(f"{path}:{line}", entry, key_types) for line, entry in entries]
    if not found:
        raise UsageError(f"{path} holds no query")
    return found


def _from_json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise UsageError(f"{path}:{number}: this line is not JSON; each line is one object") from None


def _from_toml(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    entries = parse_document(str(path), text).data.get("queries", [])
    if not isinstance(entries, list):
        raise UsageError(f"{path}:1: write [[queries]] above each query")
    headers = [line for line, words in statements(text) if words.lstrip().startswith("[[queries]]")]
    inline = lines_of_keys(text).get(("queries",), 1)
    for place, entry in enumerate(entries):
        yield headers[place] if place < len(headers) else inline, entry


def _golden(place: str, entry: Any, key_types: Sequence[str]) -> Golden:
    if not isinstance(entry, dict):
        raise UsageError(f"{place}: this is no object with `query` and `expected`")
    query, expected = entry.get("query"), entry.get("expected")
    if not isinstance(query, str) or not query.strip():
        raise UsageError(f"{place}: `query` is missing, or is no text")
    if not isinstance(expected, list) or not expected:
        raise UsageError(f"{place}: `expected` is missing, or is no list of ids")
    ids = []
    for number, each in enumerate(expected, 1):
        try:
            ids.append(canonical_id(each, key_types))
        except MalformedId:
            kind = " and ".join(key_types)
            raise UsageError(f"{place}: id {number} of `expected` is no key of the source ({kind})") from None
    return Golden(query, tuple(dict.fromkeys(ids)))
