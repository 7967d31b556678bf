"""The headings of a Markdown text that stand above a place in it. Pure functions."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

_LINE = re.compile(r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})|(?P<marks>#{1,6})(?![^ \t\r\n])(?P<words>[^\n]*))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Heading:
    start: int
    level: int
    words: str
    above: tuple[str, ...]
    """The headings that this one is under."""


class Headings:
    """The headings of one text."""

    def __init__(self, text: str) -> None:
        self._found = _headings(text) if "#" in text else []
        self._starts = [each.start for each in self._found]

    def above(self, start: int) -> tuple[str, ...]:
        """Return the headings that the place is under, the highest first. One that begins there is not above it."""
        number = bisect_left(self._starts, start)
        if number < len(self._found) and self._starts[number] == start:
            return self._found[number].above
        if number == 0:
            return ()
        last = self._found[number - 1]
        return (*last.above, last.words) if last.words else last.above


def _headings(text: str) -> list[_Heading]:
    found: list[_Heading] = []
    open_ones: list[_Heading] = []
    fence = ""
    for match in _LINE.finditer(text):
        if mark := match["fence"]:
            if not fence:
                fence = mark
            elif mark.startswith(fence):  # at least as long, of the same character
                fence = ""
            continue
        if fence:
            continue
        level, words = len(match["marks"]), _without_closing(match["words"].strip())
        while open_ones and open_ones[-1].level >= level:
            open_ones.pop()
        heading = _Heading(match.start(), level, words, tuple(each.words for each in open_ones if each.words))
        open_ones.append(heading)
        found.append(heading)
    return found


def _without_closing(words: str) -> str:
    """`Title ##` is the heading `Title`."""
    bare = words.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else words
