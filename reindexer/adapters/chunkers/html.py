"""Cuts HTML by its headings and blocks. It needs no other package.

Tags are read as browsers read them, and nothing depends on a tree: what is closed too late, twice or never moves no cut
far away, and nothing fails.

The spans are of the text as it is, tags among it. But each begins and ends with the block that holds its first and its
last words: the tags around it, and what comes before and after, are left out. Scripts and styles are in no span, nor is
a tag or a comment of more than `LONG_MARKUP` tokens (a picture in a `data:` URL). Markup without words is no chunk.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

from reindexer.adapters.chunkers.places import DEEPEST, PlaceCollector
from reindexer.core.text.chunks import Span, fits, spans_at

LONG_MARKUP = 128
"""Tokens of one tag or comment that is too long to stay between words."""

_MARKUP = re.compile(
    r"<!--(?:-?>|(?:(?!--!?>).)*+(?:--!?>|\Z))"
    r"|<(?P<end>/?)(?P<name>[a-zA-Z][^\s/<>]*+)(?:=\s*+(?>\"[^\"]*+\"|'[^']*+')|[^<>])*+>"
    r"|<[!?/][^<>]*+>",
    re.DOTALL,
)
_END_OF = {name: re.compile(rf"</{name}(?=[\s/>])[^>]*+>|\Z", re.IGNORECASE) for name in ("script", "style")}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_WITHIN_LINES = frozenset(re.findall(
    r"\w+",
    "a abbr acronym audio b bdi bdo big br button cite code data del dfn em font i iframe img input ins kbd label map "
    "mark meter nobr output picture progress q ruby rb rp rt rtc s samp select small source span strike strong sub sup "
    "svg time track tt u var video wbr",
))  # fmt: skip
"""Elements that stand within a line of text. Any other one is a block."""
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
})  # fmt: skip
_CELLS, _ROWS, _TERMS = frozenset({"td", "th", "tr"}), frozenset({"tr"}), frozenset({"dt", "dd"})
_ENDS = {"li": frozenset({"li"}), "td": _CELLS, "th": _CELLS, "tr": _ROWS, "dt": _TERMS, "dd": _TERMS}
"""Blocks that need no end tag: which ones end them. Any block ends a `p`."""
_WHOLE = ("table", "pre")
"""Rather than to cut these, their heading is left alone."""
_INLINE = 2 * (len(_HEADINGS) + DEEPEST + 2)
"""The level of places within a block."""


@dataclass(slots=True)
class _Block:
    """A block element, or all around the text."""

    name: str
    start: int
    end: int
    depth: int
    heading: int
    """Where the heading begins that it is in; -1: it is in none."""


@dataclass(frozen=True, slots=True)
class _Words:
    """A stretch of text between two pieces of markup that is not blank, and the innermost block that holds it."""

    start: int
    end: int
    block: _Block


def spans(text: str, max_tokens: int, overlap_tokens: int) -> tuple[Span, ...]:
    """See `reindexer.ports.Chunker`. A text without any words has no chunk."""
    page = _Page(text)
    found: list[Span] = []
    for start, end, places in page.stretches():
        for each in spans_at(text[start:end], places, max_tokens, overlap_tokens):
            chunk = page.bare(start + each.start, start + each.end)
            if chunk is None:  # guard html-markup-alone
                continue
            if found and chunk.end <= found[-1].end:
                continue  # all its words overlap
            if found and chunk.start <= found[-1].start:
                found.pop()
            found.append(chunk)
    return tuple(found)


class _Page:
    """What the markup of a text says of it. Between two stretches of words there is one place to cut at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words: list[_Words] = []
        self._places = PlaceCollector()
        self._gaps: list[Span] = []
        """What is in no chunk."""
        self._openings: dict[int, int] = {}
        """Of tags within a line that do not end an element: where each ends, and where it starts."""
        self._closings: dict[int, int] = {}
        """Of those that do: where each starts, and where it ends."""
        self._open = [_Block("", -1, len(text) + 1, 0, -1)]
        self._names: Counter[str] = Counter()
        """Of the open blocks."""
        self._at = 0
        self._boundary: int | None = None
        """Since the last words: the least depth of a block that began or ended."""
        self._place = -1
        """Since a block ended: where the first tag stands that may begin what holds the next words."""
        self._read()
        self._starts = [each.start for each in self._words]

    def stretches(self) -> Iterator[tuple[int, int, list[list[int]]]]:
        """Yield what lies between gaps: start, end, and the places in it, counted from its start."""
        levels = self._places.places()
        bounds = [0, *(at for gap in self._gaps for at in (gap.start, gap.end)), len(self._text)]
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            if self._text[start:end].strip():
                inner = (level[bisect_right(level, start) : bisect_left(level, end)] for level in levels)
                yield start, end, [[at - start for at in level] for level in inner]

    def bare(self, start: int, end: int) -> Span | None:
        """Return what is left of a range without the markup around its first and its last words. None: it has no
        words."""
        first = max(0, bisect_right(self._starts, start) - 1)
        seen = [
            (each.block, span)
            for each in self._words[first : bisect_left(self._starts, end)]
            if (span := _seen(self._text, max(each.start, start), min(each.end, end)))
        ]
        if not seen:
            return None
        (first_block, words), (last_block, last_words) = seen[0], seen[-1]
        begin, stop = words.start, last_words.end
        if first_block.start >= start:
            begin = first_block.start
        while (earlier := self._openings.get(begin, -1)) >= start:
            begin = earlier
        if last_block.end <= end:
            stop = last_block.end
        while stop < (later := self._closings.get(stop, -1)) <= end:
            stop = later
        return Span(begin, stop)

    def _read(self) -> None:
        text, at = self._text, 0
        while found := _MARKUP.search(text, at):
            start, at = found.span()
            name = (found["name"] or "").lower()
            self._words_until(start)
            if name in _END_OF and not found["end"]:
                at = _end(_END_OF[name], text, at)
                self._gaps.append(Span(start, at))  # guard html-script-gap
            elif name:
                self._tag(name, bool(found["end"]), start, at)
            if name not in _END_OF and not fits(text[start:at], LONG_MARKUP):
                self._gaps.append(Span(start, at))
            self._at = at
        self._words_until(len(text))

    def _tag(self, name: str, is_end: bool, start: int, end: int) -> None:
        if name in _WITHIN_LINES:
            if is_end:
                self._closings[start] = end
            else:
                self._openings[end] = start
                self._place = self._place if self._place >= 0 else start
        elif is_end:
            if self._names[name]:
                while self._open[-1].name != name:
                    self._leave(start)
                self._leave(end)
        else:
            while self._is_ended_by(name):
                self._leave(start)
            around = self._open[-1]
            self._bounded(around.depth)
            self._place = self._place if self._place >= 0 else start
            heading = start if name in _HEADINGS else around.heading
            if name not in _VOID and self._text[end - 2] != "/":
                self._names[name] += 1
                self._open.append(_Block(name, start, len(self._text), around.depth + 1, heading))

    def _is_ended_by(self, name: str) -> bool:
        last = self._open[-1].name
        return last == "p" or name in _ENDS.get(last, ())

    def _leave(self, end: int) -> None:
        left = self._open.pop()
        self._names[left.name] -= 1
        left.end = end
        self._bounded(left.depth - 1)
        self._place = -1

    def _bounded(self, depth: int) -> None:
        self._boundary = depth if self._boundary is None else min(depth, self._boundary)

    def _words_until(self, end: int) -> None:
        """What lies before `end`, and is not read yet, are words, unless it is blank."""
        start = self._at
        if _seen(self._text, start, end) is None:
            return
        around = self._open[-1]
        if self._words and (level := self._level(around)) is not None:
            self._places.add(self._place if self._place >= 0 else start, level)
        self._words.append(_Words(start, end, around))
        self._boundary, self._place = None, -1

    def _level(self, around: _Block) -> int | None:
        """The level of the place before words in this block: a heading's, its depth's, or that of a line. None: it is
        no place to cut at, because a heading is right above."""
        if self._boundary is None:
            return _INLINE if self._place >= 0 else None
        before = self._words[-1].block
        is_below_heading = before.heading not in (-1, around.heading)
        if is_below_heading and not any(self._names[name] for name in _WHOLE):
            return None
        if around.heading not in (-1, before.heading) and not is_below_heading:
            return _HEADINGS[self._text[around.heading + 1 : around.heading + 3].lower()]
        return len(_HEADINGS) + 1 + 2 * min(self._boundary, DEEPEST) + is_below_heading


def _seen(text: str, start: int, end: int) -> Span | None:
    """Return the range without blank ends. None: nothing in it can be seen."""
    words = text[start:end].strip()
    if not words or ("&" in words and not unescape(words).strip()):
        return None
    begin = text.index(words, start)
    return Span(begin, begin + len(words))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.search(text, at)
    return found.end() if found else len(text)
