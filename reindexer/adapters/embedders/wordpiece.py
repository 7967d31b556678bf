"""WordPiece as in the uncased BERT models: splits a text into words without case and accents, and words into pieces.

It is written here because it takes forty lines. The library `tokenizers`, which a test compares it with, brings a dozen
megabytes of other packages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

LONGEST_WORD = 100
"""In characters. A longer word has no pieces, as in the original."""
CONTINUES = "##"
"""The vocabulary's prefix of a piece that does not begin a word."""

_REMEMBERED = 20_000
_DROPPED = ("Mn", "Cc", "Cf", "Co", "Cs")
"""Accents, controls, formats, private use and surrogates. An unassigned character is kept, as part of a word."""
_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Each of these characters is a word. The odd start 2B920 is the original's."""


class _Characters(dict[int, str | None]):
    """The replacement of each character of a decomposed text, for `str.translate`; computed at its first use."""

    def __missing__(self, point: int) -> str | None:
        becomes = _character(point)
        if len(self) < _REMEMBERED:
            self[point] = becomes
        return becomes


def _character(point: int) -> str | None:
    letter = chr(point)
    if letter in "\t\n\r" or letter.isspace():
        return " "
    category = unicodedata.category(letter)
    if category in _DROPPED or point == 0xFFFD:
        return None
    if category[0] == "P" or (point < 128 and not letter.isalnum()):
        return f" {letter} "
    return f" {letter} " if any(first <= point <= last for first, last in _IDEOGRAPHS) else letter.lower()


_CHARACTERS = _Characters()


def words(text: str) -> list[str]:
    """The words of a text, punctuation marks among them. A text of blanks and accents alone has none."""
    return (text if text.isascii() else unicodedata.normalize("NFD", text)).translate(_CHARACTERS).split()


def pieces(word: str, vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """The pieces of a word, the longest that fits at each position; none if a part of the word matches no piece."""
    found: list[int] = []
    start = 0
    while start < len(word) <= LONGEST_WORD:
        prefix = CONTINUES if start else ""
        for end in range(len(word), start, -1):
            if (number := vocabulary.get(prefix + word[start:end])) is not None:
                found.append(number)
                start = end
                break
        else:
            return ()
    return tuple(found)
