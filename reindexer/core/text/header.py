"""The header of a chunk: what its item and the headings above it say, in one line that is embedded in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reindexer.core.errors import UsageError
from reindexer.core.text.template import parse
from reindexer.core.text.tokens import estimate_tokens

HEADINGS = "headings"
"""The name that stands for the Markdown headings above a chunk, the highest first."""
BETWEEN = " › "
MOST_TOKENS = 128
"""Maximum tokens of a header, estimated. A longer one is cut: a title of a megabyte must leave room for the text."""


def check_header(template: str, columns: Sequence[str]) -> None:
    """Raises UsageError if the template is invalid, or names nothing that differs from item to item."""
    names = [name for _, name in parse(template) if name is not None]
    for name in names:
        if name not in columns and name != HEADINGS:
            raise UsageError(
                f"the chunk header names {name!r}, which is neither a text column ({', '.join(columns)}) nor {HEADINGS}"
            )
    if not names:
        raise UsageError(f"the chunk header names no column; write {{{columns[0]}}} or {{{HEADINGS}}} into it")


def header_columns(template: str | None) -> tuple[str, ...]:
    """Return the columns whose values the header needs, each once."""
    names = [name for _, name in parse(template or "") if name not in (None, HEADINGS)]
    return tuple(dict.fromkeys(str(name) for name in names))


def render_header(template: str, values: Mapping[str, str], headings: Sequence[str], most_tokens: int) -> str:
    """Return the header as one line with its line end; empty if all that it names is blank.

    The words before a blank value are left out, and so are those before the first value that is not blank, unless they
    begin the template: `{title} › {headings}` is a title alone where there are no headings.
    """
    said = ""
    pieces = parse(template)
    for place, (literal, name) in enumerate(pieces):
        if name is None:
            said += literal if said else ""
            continue
        value = " ".join((BETWEEN.join(headings) if name == HEADINGS else values.get(name, "")).split())
        if value:
            said += (literal if said or place == 0 else "") + value
    said = " ".join(said.split())
    return f"{_cut(said, most_tokens - 1)}\n" if said else ""


def _cut(line: str, most_tokens: int) -> str:
    """The beginning of a line that is not longer, at a word if there is one."""
    while (tokens := estimate_tokens(line)) > most_tokens:
        shorter = line[: min(len(line) - 1, len(line) * most_tokens // tokens)]
        line = shorter.rpartition(" ")[0] or shorter
    return line
