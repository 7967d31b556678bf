"""Translates filters and payload indexes to the types of Qdrant's client."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from qdrant_client import models

from reindexer.core.filters import Absent, AnyOf, Condition, Filter, Scalar, Within
from reindexer.core.payload import Path, PayloadColumn

_SAME_DOUBLE, _TOO_LARGE = 2**53, 2**63
"""From the first on, an integer and its neighbours are one double. Payloads hold no integers from the second on."""


def key_of(path: Path) -> str:
    """A JSON path in Qdrant's form. A name with characters other than letters, digits, `_` and `-` is quoted. No other
    name is, because Qdrant lists its indexes in this form. Letters are those of any script. The elements of a list are
    `[]`."""
    key = "".join("[]" if name is None else f".{_quoted(name)}" for name in path)
    return key.removeprefix(".")


def _quoted(name: str) -> str:
    return name if all(letter.isalnum() or letter in "_-" for letter in name) else f'"{name}"'


def index_of(column: PayloadColumn) -> Any:
    """The parameters of a column's index. A tenant column that has another type since it was attached gets a plain
    index."""
    if column.tenant and column.kind == "uuid":
        return models.UuidIndexParams(type=models.UuidIndexType.UUID, is_tenant=True)
    if column.tenant and column.kind == "keyword":
        return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    return models.PayloadSchemaType(column.kind)


def filter_of(conditions: Filter, *more: models.Condition, without: Sequence[models.Condition] = ()) -> models.Filter:
    """A filter that requires all of `conditions` and of `more`, and none of `without`."""
    must = [_condition(each) for each in conditions if not each.negated]
    must_not = [_condition(each) for each in conditions if each.negated]
    return models.Filter(must=[*more, *must], must_not=[*without, *must_not] or None)


def _condition(condition: Condition) -> models.Condition:
    key = key_of(condition.path)
    match condition.test:
        case Absent():
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        case Within(bounds):
            times = any(isinstance(bound, datetime) for bound in bounds.values())
            range_of: type[models.DatetimeRange | models.Range] = models.DatetimeRange if times else models.Range
            return models.FieldCondition(key=key, range=range_of.model_validate(bounds))
        case AnyOf(values):
            return _any_of(key, values)


def _any_of(key: str, values: tuple[Scalar, ...]) -> models.Condition:
    if len(values) == 1:
        return _equals(key, values[0])
    if len(texts := [value for value in values if isinstance(value, str)]) == len(values):
        return models.FieldCondition(key=key, match=models.MatchAny(any=texts))
    return models.Filter(should=[_equals(key, value) for value in values])


def _equals(key: str, value: Scalar) -> models.FieldCondition:
    """Equality. Times compare by range, because one moment can be written in many ways. Numbers do, too: 450 and 450.0
    are equal in Postgres, and two different values to a match. But a range is of doubles, so large integers are
    matched."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _TOO_LARGE:
        value = int(value)
    if isinstance(value, datetime):
        return models.FieldCondition(key=key, range=models.DatetimeRange(gte=value, lte=value))
    # guard filter-large-integer
    if isinstance(value, str | bool) or (isinstance(value, int) and abs(value) >= _SAME_DOUBLE):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
