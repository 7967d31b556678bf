"""The opening of a text, as a query that somebody might type. Pure functions."""

from __future__ import annotations

import re

FEWEST_WORDS = 3
MOST_WORDS = 16

_END = re.compile(r"[.!?。！？][\"')\]]*$")


def opening(text: str) -> str:
    """Return the first sentence or line of a text: at least three words, where it has so many, and at most 16."""
    words: list[str] = []
    for line in text.splitlines():
        for word in line.split():
            words.append(word)
            if len(words) == MOST_WORDS or (len(words) >= FEWEST_WORDS and _END.search(word)):
                return " ".join(words)
        if len(words) >= FEWEST_WORDS:
            break
    return " ".join(words)
