"""Chunks: a long text is cut where its structure is, so that an edit changes few of them. Pure.

A text that is too long is cut in two at the strongest separator that is not near its ends: a heading before a paragraph
before a line before a sentence before a word. Of equally strong ones the hash of what follows decides, and not how
far the text before it reaches. So a cut stays where it is while something else is edited, inserted, deleted or moved;
chunks that are filled up one after the other would all change with the first. What is still too long is cut again.

A chunk holds a quarter of what it may, or more (0.6 on average), unless the text's structure leaves no such cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, pairwise

from reindexer.core.text.tokens import estimate_tokens

_LEVELS: tuple[re.Pattern[str], ...] = (
    re.compile(r"^(?=#{1,6}[ \t])", re.MULTILINE),
    re.compile(r"(?<=\n)(?:[ \t\r]*\n)+"),
    re.compile(r"(?<=\n)"),
    re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])"),
    re.compile(r"\s+"),
)
"""Where the parts of a text begin: at the end of a match. The strongest first."""
_HEADINGS = 6
BYTES = 4
"""Of UTF-8 that a character has at most, and so about the most tokens: nothing has to be counted in a short text."""


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk's place in the text: characters `start` up to, and without, `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    tokens: int
    strength: tuple[int, bytes]
    """Of the cut before it: the lowest is the strongest."""


def spans(text: str, max_tokens: int, overlap_tokens: int = 0) -> tuple[Span, ...]:
    """Cut a text into chunks of at most `max_tokens` by estimate, none of them blank, in order.

    A text that fits is one chunk as it is; an empty one is none. Each but the first begins up to `overlap_tokens`
    earlier, at a word.
    """
    if not text:
        return ()
    if BYTES * len(text) < max_tokens or estimate_tokens(text) <= max_tokens:
        return (Span(0, len(text)),)
    room = max(1, max_tokens - overlap_tokens)
    parts = list(_parts(text, 0, len(text), room, 0))
    found = (_trimmed(text, parts[first].start, parts[last - 1].end) for first, last in _cut(text, parts, room))
    bare = [span for span in found if span.end > span.start]
    if not overlap_tokens:
        return tuple(bare)
    after = (
        Span(_earlier(text, one.start + 1, following, overlap_tokens, max_tokens), following.end)
        for one, following in pairwise(bare)
    )
    return (bare[0], *after)


def _parts(text: str, start: int, end: int, room: int, level: int) -> Iterator[_Part]:
    """The parts of a stretch of text, each small enough to be one chunk."""
    bounds = [start, *(at for at in _separators(text, start, end, room, level) if start < at < end), end]
    for at, following in pairwise(bounds):
        tokens = estimate_tokens(text[at:following])
        if tokens <= room or level > len(_LEVELS):
            yield _Part(at, following, tokens, _strength(text, at, following, level))
            continue
        inner = _parts(text, at, following, room, level + 1)
        first = next(inner)
        yield _Part(first.start, first.end, first.tokens, (_strength(text, at, following, level)[0], first.strength[1]))
        yield from inner


def _separators(text: str, start: int, end: int, room: int, level: int) -> Iterator[int]:
    if level < len(_LEVELS):
        return (match.end() for match in _LEVELS[level].finditer(text, start, end))
    piece = max(1, room // 4)  # of a word that is longer than a chunk
    return iter(range(start + piece, end, piece))


def _strength(text: str, at: int, following: int, level: int) -> tuple[int, bytes]:
    rank = _HEADINGS + level
    if level == 0:
        marks = len(text[at : at + _HEADINGS]) - len(text[at : at + _HEADINGS].lstrip("#"))
        rank = marks or _HEADINGS
    words = text[at:following].strip().encode("utf-8", "surrogatepass")
    return rank, blake2b(words, digest_size=8).digest()


def _cut(text: str, parts: list[_Part], room: int) -> Iterator[tuple[int, int]]:
    """Runs of parts (first, one after the last) that fit, in order."""

    def fits(first: int, last: int) -> bool:
        # Together they may be a little more than each by itself: at a seam two characters meet.
        seen = before[last] - before[first] <= room
        # guard token-estimate-whole-chunk
        return seen and estimate_tokens(text[parts[first].start : parts[last - 1].end]) <= room

    before = list(accumulate((part.tokens for part in parts), initial=0))
    todo = [(0, len(parts))]
    while todo:
        first, last = todo.pop()
        if last - first == 1 or fits(first, last):
            yield first, last
            continue
        at = _cut_of(parts, before, first, last, room / 4)
        todo += [(at, last), (first, at)]


def _cut_of(parts: list[_Part], before: list[int], first: int, last: int, margin: float) -> int:
    middle = (before[first] + before[last]) / 2
    inner = [
        at
        for at in range(first + 1, last)
        if before[at] - before[first] >= margin and before[last] - before[at] >= margin
    ]
    off_middle: Callable[[int], float] = lambda at: abs(before[at] - middle)  # noqa: E731
    if not inner:
        return min(range(first + 1, last), key=off_middle)
    return min(inner, key=lambda at: (parts[at].strength, off_middle(at)))  # guard chunk-cut-strength


def _trimmed(text: str, start: int, end: int) -> Span:
    words = text[start:end]
    return Span(start + len(words) - len(words.lstrip()), start + len(words.rstrip()))


def _earlier(text: str, earliest: int, chunk: Span, tokens: int, most: int) -> int:
    """Where a chunk begins that takes so many tokens of what is before it along: at a word, or where it began."""
    start, at = chunk.start, max(earliest, chunk.start - 3 * tokens)
    while at < start and (estimate_tokens(text[at:start]) > tokens or estimate_tokens(text[at : chunk.end]) > most):
        at += max(1, (start - at) // 8)
    if not text[at - 1].isspace():
        found = re.compile(r"\s\S").search(text, at, start)
        return found.end() - 1 if found else start
    return at + len(text[at:start]) - len(text[at:start].lstrip())
