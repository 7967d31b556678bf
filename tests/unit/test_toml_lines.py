"""The line of a key is told, however the key is written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.sources_file.toml_lines import lines_of_keys

DOCUMENT = '''# a comment: [not.a.table]
top = 1

[sources.products]  # = "not a key"
table = """
[also.not]
text = 'no'
"""
'text' = ["a",   # one
    "b = c", "]",

    "d"]
"odd \\"key\\" = # \\u00e9" = 1
  where = 'x = "y"'
tag.deep."a.b" = { inner = { most = 1 }, other = 2 }

[ sources . "shop.goods" ]
list = [{ one = 1 }, [{ two = 2 }], """
three = 3"""]
empty = """"""
last = \'\'\'
\'\'\'
[[rows]]
a = 1
[[rows]]
a = 2
b = 3
[rows.sub]
c = 4'''

LINES = {
    ("top",): 2,
    ("sources",): 4,
    ("sources", "products"): 4,
    ("sources", "products", "table"): 5,
    ("sources", "products", "text"): 9,
    ("sources", "products", 'odd "key" = # é'): 13,
    ("sources", "products", "where"): 14,
    ("sources", "products", "tag"): 15,
    ("sources", "products", "tag", "deep"): 15,
    ("sources", "products", "tag", "deep", "a.b"): 15,
    ("sources", "products", "tag", "deep", "a.b", "inner"): 15,
    ("sources", "products", "tag", "deep", "a.b", "inner", "most"): 15,
    ("sources", "products", "tag", "deep", "a.b", "other"): 15,
    ("sources", "shop.goods"): 17,
    ("sources", "shop.goods", "list"): 18,
    ("sources", "shop.goods", "list", "one"): 18,
    ("sources", "shop.goods", "empty"): 20,
    ("sources", "shop.goods", "last"): 21,
    ("rows",): 23,
    ("rows", "a"): 24,
    ("rows", "b"): 27,
    ("rows", "sub"): 28,
    ("rows", "sub", "c"): 29,
}


def test_each_key_is_on_its_first_line_whatever_strings_comments_and_lists_look_like() -> None:
    assert lines_of_keys(DOCUMENT) == LINES


def test_line_ends_of_windows_count_as_one() -> None:
    assert lines_of_keys(DOCUMENT.replace("\n", "\r\n")) == LINES
    assert lines_of_keys("a = 1\r\n\r\nb = 2\r\n") == {("a",): 1, ("b",): 3}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing", "\t\r\n"])
def test_a_document_that_says_nothing_has_no_lines(text: str) -> None:
    assert lines_of_keys(text) == {}


def test_what_other_programs_take_for_line_ends_is_none() -> None:
    assert lines_of_keys('a = "\u2028\u0085" # \u2029\nb = 1') == {("a",): 1, ("b",): 2}


def test_keys_that_lie_very_deep_are_left_out() -> None:
    deep = ".".join("a" * 3000)
    found = lines_of_keys(f"b = 1\n{deep} = 1\n[c.{deep}]\nd = 1")
    assert set(found.values()) == {1, 2, 3, 4}
    assert max(map(len, found)) < 40


def test_a_value_of_many_lines_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of 4,000 lines took 90 s where each line was read with all that came before it."""
    read: list[int] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        read.append(len(text))
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    text = "a = [\n" + "  1,\n" * 1_000 + "]\nb = 2\n"
    assert lines_of_keys(text) == {("a",): 1, ("b",): 1_003}
    assert sum(read) <= 3 * len(text)


SCALARS = st.integers() | st.booleans() | st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), SCALARS | st.lists(SCALARS), max_size=8), st.data())
def test_any_key_is_found_where_it_was_written(values: dict[str, Any], data: st.DataObject) -> None:
    lines, expected = [], {}
    for key, value in values.items():
        lines += [""] * data.draw(st.integers(0, 2))
        expected[key,] = len(lines) + 1
        lines += f"{basic(key)} = {written(value, data.draw(st.booleans()))}".split("\n")
    text = "\n".join(lines)
    assert tomllib.loads(text) == values
    assert lines_of_keys(text) == expected


def basic(text: str) -> str:
    """As a basic string."""
    return '"' + "".join(c if c.isalnum() or c in " #=[]'" else f"\\U{ord(c):08x}" for c in text) + '"'


def written(value: Any, wide: bool) -> str:
    """A value, on several lines if it may be."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        between = ",\n" if wide else ", "
        return f"[{between.join(written(each, wide) for each in value)}]"
    return f'""{basic(value)}""'.replace('"""', '"""\n', 1) if wide else basic(value)
