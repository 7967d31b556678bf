"""How columns become one text."""

from __future__ import annotations

import pytest

from reindexer.core.errors import UsageError
from reindexer.core.text.template import check_template, render_text

COLUMNS = ["name", "odd {name}.x[0]"]


def test_without_a_template_what_is_not_blank_stands_a_line_each() -> None:
    assert render_text(["a", "b", "c"], [" one ", None, "three\n"]) == "one\nthree"


def test_a_template_puts_columns_where_it_names_them() -> None:
    assert (
        render_text(["name", "body"], ["Bicycle", " two wheels "], "{name}: {body} {{now}}")
        == "Bicycle: two wheels {now}"
    )


def test_a_null_in_a_template_is_nothing() -> None:
    assert render_text(["name", "body"], ["Bicycle", None], "{name}\n{body}") == "Bicycle"


@pytest.mark.parametrize("values", [[None, None], ["", " \t\n"], ["　", None]])
def test_where_all_columns_are_blank_there_is_nothing_to_embed(values: list[str | None]) -> None:
    assert render_text(["name", "body"], values) == ""
    assert render_text(["name", "body"], values, "Name: {name}, {body}") == ""


def test_values_are_not_read_as_templates() -> None:
    assert render_text(["name"], ["{name.__class__}"], "<{name}>") == "<{name.__class__}>"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{name", "can't be read"),
        ("name}", "can't be read"),
        ("{}", "name of a column"),
        ("{name!r}", "only names"),
        ("{name:>10}", "only names"),
        ("{name.__class__}", "is not one of the text columns"),
        ("{name[0]}", "is not one of the text columns"),
        ("{price} {name}", "'price', which is not one"),
        ("text", "does not use the text column 'name'"),
    ],
)
def test_a_template_that_is_none_is_refused_with_a_reason(template: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_template(template, ["name"])
