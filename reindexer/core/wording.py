"""Wording of messages: a number with its noun, and what a validator of pydantic's refuses, in our own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `2 rows`, `7,683 rows`. `plural`: the noun's plural, if that is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def refusal(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, from one of pydantic's `ValidationError.errors()`. Quotes no value, unless a
    validator of ours does."""
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if words := _WORDS.get(error["type"]):
        return words if isinstance(words, str) else words(context)
    # What follows a comma may quote the input.
    return re.sub(r"^\w+ should ", "must ", str(error["msg"]).partition(",")[0])


def _plain(bound: Any) -> Any:
    """`0`, not `0.0`."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _at_least(context: Mapping[str, Any]) -> str:
    size = context["min_length"]
    return "must not be empty" if size == 1 else f"must have at least {counted(size, _part(context))}"


def _at_most(context: Mapping[str, Any]) -> str:
    return f"must have at most {counted(context['max_length'], _part(context))}"


def _part(context: Mapping[str, Any]) -> str:
    return "element" if "field_type" in context else "character"


_WHOLE, _NUMBER, _BOOL, _TEXT, _OBJECT = (
    "must be a whole number",
    "must be a number",
    "must be true or false",
    "must be text",
    "must be an object",
)

_WORDS: Mapping[str, str | Callable[[Mapping[str, Any]], str]] = {
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_parsing": _BOOL,
    "bool_type": _BOOL,
    "string_type": _TEXT,
    "string_unicode": "must be text in UTF-8",
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "list_type": "must be a list",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "json_invalid": "is not JSON",
    "greater_than": lambda context: f"must be more than {_plain(context['gt'])}",
    "greater_than_equal": lambda context: f"must be at least {_plain(context['ge'])}",
    "less_than": lambda context: f"must be less than {_plain(context['lt'])}",
    "less_than_equal": lambda context: f"must be at most {_plain(context['le'])}",
    "string_too_short": _at_least,
    "string_too_long": _at_most,
    "too_short": _at_least,
    "too_long": _at_most,
    "literal_error": lambda context: f"must be {context['expected']}",
    "enum": lambda context: f"must be {context['expected']}",
}
