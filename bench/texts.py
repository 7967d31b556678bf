"""Real texts: the standard library's docstrings, repeated with variation up to the number that is needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

from reindexer.cli.stdlib_texts import stdlib_texts


def texts(count: int) -> Iterator[tuple[str, str]]:
    """(title, content), no two of them equal."""
    real = [(each.name, each.text[:4000]) for each in stdlib_texts()]
    return ((f"{title} {n}", content) for n, (title, content) in enumerate(islice(cycle(real), count)))
