"""Real texts: the standard library's docstrings, repeated with variations up to the needed number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

from reindexer.cli.stdlib_texts import stdlib_texts


def texts(count: int) -> Iterator[tuple[str, str]]:
    """(title, content); all differ."""
    real = [(each.name, each.text[:4000]) for each in stdlib_texts()]
    return ((f"{title} {n}", content) for n, (title, content) in enumerate(islice(cycle(real), count)))
