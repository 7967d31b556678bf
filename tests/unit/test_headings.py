"""The headings above a place in a Markdown text."""

from __future__ import annotations

import pytest

from reindexer.core.text.headings import Headings

TEXT = """before
# One
first
## One one
deep
```sh
# no heading
```
still deep
## One two ##
other
# Two
####### no heading
last
"""


@pytest.mark.parametrize(
    ("place", "above"),
    [
        ("before", ()),
        ("# One\n", ()),
        ("first", ("One",)),
        ("## One one", ("One",)),
        ("deep", ("One", "One one")),
        ("# no heading\n", ("One", "One one")),
        ("still deep", ("One", "One one")),
        ("## One two", ("One",)),
        ("other", ("One", "One two")),
        ("# Two", ()),
        ("last", ("Two",)),
    ],
)
def test_headings_above_a_place(place: str, above: tuple[str, ...]) -> None:
    assert Headings(TEXT).above(TEXT.index(place)) == above


def test_a_text_without_headings_has_none() -> None:
    assert Headings("").above(0) == Headings("a text\n#hashtag").above(8) == ()


def test_very_many_marks_take_no_time() -> None:
    text = "# " * 200_000 + "\n# C#\n" + "#" * 200_000 + "\n## a" + " " * 200_000 + "b\n" + "#" * 4
    above = Headings(text).above(len(text) - 1)
    assert (above[0], above[1][0], len(above)) == ("C#", "a", 2)
