"""Cuts Markdown by its sections and blocks. Parsed by markdown-it-py: CommonMark, and the tables of GitHub.

A section begins at its heading. A heading stays with what follows it, if both fit. A fenced block of code, a table and
the front matter are cut only if they are too long for one chunk; a list is cut between its items.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

from reindexer.adapters.chunkers.places import DEEPEST, PlaceCollector
from reindexer.core.text.chunks import Places, Span, fits, spans_at

_HEADINGS = 6
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
_LINE_END = re.compile(r"\r\n?|\n")
_OF_TABLES = ("thead_open", "tbody_open", "tr_open", "th_open", "td_open")
_WHOLE = ("fence", "table_open")
"""Rather than to cut these, their heading is left alone."""

_PARSER = MarkdownIt("commonmark").enable("table")
_PARSER.core.ruler.enableOnly(["normalize", "block"])


def spans(text: str, max_tokens: int, overlap_tokens: int) -> tuple[Span, ...]:
    """See `reindexer.ports.Chunker`."""
    if fits(text, max_tokens):
        return (Span(0, len(text)),)
    return spans_at(text, _places(text), max_tokens, overlap_tokens)


def _places(text: str) -> Places:
    front = _FRONT_MATTER.match(text)
    begin = front.end() if front else 0
    lines = [begin, *(match.end() for match in _LINE_END.finditer(text, begin))]
    collected, after_heading = PlaceCollector(), -1
    if front:
        collected.add(begin, 0)
    for token in _PARSER.parse(text[begin:]):
        if token.map is None or token.nesting < 0 or token.type == "inline" or token.type in _OF_TABLES:
            continue
        first, end = token.map
        if first == after_heading:
            if token.type in _WHOLE:
                collected.add(lines[first], _weak(token.level))
        elif token.type == "heading_open" and token.level == 0:
            collected.add(lines[first], int(token.tag[1]))
        else:
            collected.add(lines[first], _weak(token.level) - 1)
        if token.type == "heading_open":
            after_heading = _next_line(text, lines, end)
    return collected.places()


def _weak(depth: int) -> int:
    """Return the level of a place between a heading and the block below, which is this deep."""
    return _HEADINGS + 2 * (min(depth, DEEPEST) + 1)


def _next_line(text: str, lines: list[int], line: int) -> int:
    """Return the first line from this one on that is not blank."""
    while line + 1 < len(lines) and not text[lines[line] : lines[line + 1]].strip():
        line += 1
    return line
