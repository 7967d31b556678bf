"""Types of request fields: text and JSON that Postgres can store. Anything else is answered by 422, not by 500."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from starlette.convertors import Convertor, register_url_convertor

from reindexer.budgets import MAX_USD
from reindexer.core.text.storable import storable_text

MAX_DEPTH = 64
"""The deepest nesting of JSON: far below what any parser can take."""


def storable_json(value: dict[str, Any]) -> dict[str, Any]:
    """The object itself. Raises ValueError for what `jsonb` can't store, and for very deep nesting."""
    left: list[tuple[Any, int]] = [(value, 1)]
    while left:
        part, depth = left.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
        if isinstance(part, str):
            storable_text(part)
        elif isinstance(part, float) and not isfinite(part):
            raise ValueError("must not contain NaN or infinite numbers")
        elif isinstance(part, dict):
            left += [(each, depth + 1) for pair in part.items() for each in pair]
        elif isinstance(part, list):
            left += [(each, depth + 1) for each in part]
    return value


_STORABLE = AfterValidator(storable_text)

Text = Annotated[str, _STORABLE]
JsonObject = Annotated[dict[str, Any], AfterValidator(storable_json)]
MaxUsd = Annotated[
    float | None,
    Field(ge=0, lt=MAX_USD, allow_inf_nan=False, description="What it may cost, in dollars; then its items wait."),
]
SourceName = Annotated[str, StringConstraints(max_length=100), _STORABLE]
ItemId = Annotated[str, StringConstraints(max_length=3000), _STORABLE]
MarkToken = Annotated[str, StringConstraints(max_length=60, pattern=r"^[0-9]{1,19}-[0-9a-f]{16}(-[0-9]{1,18})?$")]
TaskId = Annotated[str, StringConstraints(max_length=300), _STORABLE]
Query = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000), _STORABLE]


class _Key(Convertor[str]):
    """A parameter in a route's path that takes any text, with slashes and line breaks (`path` ends at a line break)."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("key", _Key())
