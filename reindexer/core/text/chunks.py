"""Chunks: a long text is cut along its structure, so that an edit changes few chunks. Pure functions.

A text that is too long is cut in two at the strongest separator that is not near its ends: a heading before a paragraph
before a line before a sentence before a word. Among equally strong separators the hash of the following text decides,
not the length of the text before. A cut therefore stays in place while other parts are edited, inserted, deleted or
moved. Chunks that are filled one after the other would all change with the first. A part that is still too long is cut
again.

A chunk holds at least a quarter of its maximum (0.6 on average), unless the text's structure allows no such cut.

Whoever knows more of a text's structure names the places to cut at (`spans_at`). They then stand before all separators
but headings, in whose place they are.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
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
"""Where the parts of a text begin: at the end of a match. The strongest separators come first."""
_HEADINGS = 6
Places = Sequence[Sequence[int]]
"""Where a text may be cut: characters in order, level by level. The strongest level comes first."""
BYTES = 4
"""Maximum bytes of UTF-8 per character, and so about the maximum tokens. Short texts therefore need no token count."""


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk's place in the text: characters from `start` (inclusive) to `end` (exclusive)."""

    start: int
    end: int


Cut = Callable[[str, int, int], Sequence[Span]]
"""Cuts a text: (text, max_tokens, overlap_tokens) -> its chunks. `spans`, or the chunker of a package."""


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    tokens: int
    strength: tuple[int, bytes]
    """Strength of the cut before the part. The lowest value is the strongest."""


def spans(text: str, max_tokens: int, overlap_tokens: int = 0) -> tuple[Span, ...]:
    """Cut a text into chunks of at most `max_tokens` (estimated), in order, none of them blank.

    A text that fits is one chunk, unchanged. An empty text has no chunk. Every chunk but the first begins up to
    `overlap_tokens` earlier, at a word.
    """
    if not text:
        return ()
    if fits(text, max_tokens):
        return (Span(0, len(text)),)
    return _spans(text, (), max_tokens, overlap_tokens)


def spans_at(text: str, places: Places, max_tokens: int, overlap_tokens: int = 0) -> tuple[Span, ...]:
    """Cut a text as `spans` does, but at these places before any other. A heading is none of itself.

    What lies between two neighbouring places of a level is cut only if it is too long: then at the next level, and
    after the last one at paragraphs, lines, sentences and words.
    """
    if fits(text, max_tokens):
        return (Span(0, len(text)),)
    return _spans(text, places or ((),), max_tokens, overlap_tokens)


def fits(text: str, max_tokens: int) -> bool:
    """Whether a text is short enough for one chunk."""
    return BYTES * len(text) < max_tokens or estimate_tokens(text) <= max_tokens


def _spans(text: str, places: Places, max_tokens: int, overlap_tokens: int) -> tuple[Span, ...]:
    room = max(1, max_tokens - overlap_tokens)
    parts = list(_parts(text, 0, len(text), room, min(0, 1 - len(places)), places))
    found = (_trimmed(text, parts[first].start, parts[last - 1].end) for first, last in _cut(text, parts, room))
    bare = [span for span in found if span.end > span.start]
    if not overlap_tokens:
        return tuple(bare)
    after = (
        Span(_earlier(text, one.start + 1, following, overlap_tokens, max_tokens), following.end)
        for one, following in pairwise(bare)
    )
    return (bare[0], *after)


def _parts(text: str, start: int, end: int, room: int, level: int, places: Places) -> Iterator[_Part]:
    """Yield the parts of a range of text, each small enough to be one chunk. With `places` their last level is 0."""
    bounds = [start, *(at for at in _separators(text, start, end, room, level, places) if start < at < end), end]
    for at, following in pairwise(bounds):
        tokens = estimate_tokens(text[at:following])
        strength = _strength(text, at, following, level, bool(places))
        if tokens <= room or level > len(_LEVELS):  # guard placed-part-too-long
            yield _Part(at, following, tokens, strength)
            continue
        inner = _parts(text, at, following, room, level + 1, places)
        first = next(inner)
        yield _Part(first.start, first.end, first.tokens, (strength[0], first.strength[1]))
        yield from inner


def _separators(text: str, start: int, end: int, room: int, level: int, places: Places) -> Iterator[int]:
    if places and level <= 0:
        of_level = places[level - 1]
        return iter(of_level[bisect_right(of_level, start) : bisect_left(of_level, end)])
    if level < len(_LEVELS):
        return (match.end() for match in _LEVELS[level].finditer(text, start, end))
    piece = max(1, room // 4)  # for a word longer than a chunk
    return iter(range(start + piece, end, piece))


def _strength(text: str, at: int, following: int, level: int, is_placed: bool) -> tuple[int, bytes]:
    rank = _HEADINGS + level
    if level == 0 and not is_placed:
        marks = len(text[at : at + _HEADINGS]) - len(text[at : at + _HEADINGS].lstrip("#"))
        rank = marks or _HEADINGS
    words = text[at:following].strip().encode("utf-8", "surrogatepass")
    return rank, blake2b(words, digest_size=8).digest()


def _cut(text: str, parts: list[_Part], room: int) -> Iterator[tuple[int, int]]:
    """Yield runs of parts that fit, in order, as (first, last + 1)."""

    def fit(first: int, last: int) -> bool:
        # Together they may have slightly more tokens than their sum: two characters meet at a seam.
        seen = before[last] - before[first] <= room
        # guard token-estimate-whole-chunk
        return seen and estimate_tokens(text[parts[first].start : parts[last - 1].end]) <= room

    before = list(accumulate((part.tokens for part in parts), initial=0))
    todo = [(0, len(parts))]
    while todo:
        first, last = todo.pop()
        if last - first == 1 or fit(first, last):
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
    """Return where a chunk begins that includes up to `tokens` tokens of the text before it: at a word, or at its own
    start."""
    start, at = chunk.start, max(earliest, chunk.start - 3 * tokens)
    while at < start and (estimate_tokens(text[at:start]) > tokens or estimate_tokens(text[at : chunk.end]) > most):
        at += max(1, (start - at) // 8)
    if not text[at - 1].isspace():
        found = re.compile(r"\s\S").search(text, at, start)
        return found.end() - 1 if found else start
    return at + len(text[at:start]) - len(text[at:start].lstrip())
