"""Guards: lines of the program that a mechanism rests on, each marked by a comment of its own.

`# guard NAME` (`--` in SQL and Lua) stands behind such a line, or alone before it. A row of the table names the guard and
not the file, so a line may move anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.faults.sabotage.row import Sabotage
from tests.support.processes import ROOT

_COMMENT = re.compile(r"^(.*?) *(?:#|--) guard ([a-z0-9-]+(?:, [a-z0-9-]+)*)$")


class Misplaced(Exception):
    """A row's guard, or the text that it replaces, is not where it should be."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A marked line, from 0 on, of a file without its marks."""

    name: str
    file: str
    line: int


def guards(tree: Path = ROOT) -> list[Guard]:
    """All of the program in that tree, as it was when it was first read."""
    return [guard for path in _files(tree) for guard in _read(tree, path)[1]]


def taken_away(row: Sabotage, tree: Path = ROOT) -> tuple[str, str]:
    """A file of that tree, and its text without this mechanism and without marks. Raises Misplaced."""
    marked = [guard for guard in guards(tree) if guard.name == row.guard]
    if len({guard.file for guard in marked}) != 1:
        raise Misplaced(f"{row.guard!r} marks lines of {len({guard.file for guard in marked})} files, not of one")
    lines = list(_read(tree, marked[0].file)[0])
    for guard in sorted(marked, key=lambda each: -each.line):
        lines[guard.line :] = _changed(row, lines[guard.line :])
    return marked[0].file, "\n".join(lines)


def _changed(row: Sabotage, lines: list[str]) -> list[str]:
    """The lines from a marked one on, its text replaced."""
    indent = _indent(lines[0])
    text = "\n".join(line[min(indent, _indent(line)) :] for line in lines)
    before, found, after = text.partition(row.old)
    if not found or "\n" in before:
        raise Misplaced(f"the line that {row.guard!r} marks does not hold {row.old!r}")
    rest = "" if row.old.endswith("\n") else after.partition("\n")[0]
    replaced = before + row.new + rest
    kept = lines[(before + row.old + rest).count("\n") + (not row.old.endswith("\n")) :]
    return [" " * indent + line if line else line for line in replaced.splitlines()] + kept


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


@cache
def _files(tree: Path) -> tuple[str, ...]:
    folders = ("reindexer", "api", "migrations")
    paths = (path for folder in folders for path in sorted((tree / folder).rglob("*")))
    return tuple(str(path.relative_to(tree)) for path in paths if path.suffix in {".py", ".sql", ".lua"})


@cache
def _read(tree: Path, file: str) -> tuple[tuple[str, ...], tuple[Guard, ...]]:
    """A file's lines without marks, and what is marked."""
    lines: list[str] = []
    marked: list[Guard] = []
    for line in (tree / file).read_text(encoding="utf-8").split("\n"):
        if (mark := _COMMENT.match(line)) is None:
            lines.append(line)
            continue
        marked += [Guard(name, file, len(lines)) for name in mark[2].split(", ")]
        if mark[1]:
            lines.append(mark[1])
    return tuple(lines), tuple(marked)
