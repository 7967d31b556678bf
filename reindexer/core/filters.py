"""Filters: which items a search may find, by their payload. Checks and parses what users write. Pure functions.

    {"category": "shoes", "price": {"gte": 10, "lt": 50}, "tags": ["a", "b"], "color": {"not": "red"},
     "metadata.size": 42, "added": {"gte": "2026-01-01"}, "sold": null}

All keys must match. A list means any of its values; `null` means no value. One element of an array column must match,
and one related row: `author.country`, `tags.label`, `comments[].by`.
Error messages reach the client. They hold no value that was sent, and only the start of a key, in printable form.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Literal, get_args
from uuid import UUID

from reindexer.core.errors import UsageError
from reindexer.core.payload import Kind, Path, PayloadColumn, is_filter_name

MAX_KEYS = 32
MAX_VALUES = 100
MAX_TEXT = 1000
MAX_DEPTH = 16
MAX_INTEGER = 2**63 - 1
MAX_BOUND = 2**53
"""Bounds are doubles, as all numbers of JSON may be read: beyond this, neighbouring integers are equal."""

Bound = Literal["gt", "gte", "lt", "lte"]
BOUNDS: tuple[Bound, ...] = get_args(Bound)
Scalar = str | int | float | bool | datetime
"""Times are in UTC."""

_NUMBERS: frozenset[Kind] = frozenset({"integer", "float"})
_SIGNS: Mapping[str, str] = {">=": "gte", "<=": "lte", "!=": "not", ">": "gt", "<": "lt", "=": "is"}
_WORDS = re.compile(r"([^=<>!]+?)\s*(>=|<=|!=|=|>|<)\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of these values."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """Between bounds: all numbers, or all times in UTC."""

    bounds: Mapping[Bound, float | datetime]


@dataclass(frozen=True, slots=True)
class Absent:
    """No value: null, missing or an empty list."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that a part of the payload must meet; if `negated`, must not meet."""

    path: Path
    """Of the column, followed by keys below it in its JSON."""
    kind: Kind
    test: AnyOf | Within | Absent
    negated: bool = False


Filter = tuple[Condition, ...]


def parse_filter(raw: Mapping[str, Any], columns: Sequence[PayloadColumn]) -> Filter:
    """Parse a filter in JSON form. Raises UsageError, one line, for a key that is no payload column or a value that
    can't fit."""
    if len(raw) > MAX_KEYS:
        raise UsageError(f"the filter has more than {MAX_KEYS} keys")
    return tuple(condition for key, value in raw.items() for condition in _conditions(key, value, columns))


def parse_words(words: Sequence[str], columns: Sequence[PayloadColumn]) -> Filter:
    """Parse the command line's form: `price>=10`, `category=shoes`, `color!=red`, `tags=["a", "b"]`. `tags=a,b` is one
    text."""
    conditions: list[Condition] = []
    for each in words:
        found = _WORDS.fullmatch(each.strip())
        if found is None:
            raise UsageError(
                f"the filter {_shown(each)} can't be read; write column=value, column!=value or column>=value"
            )
        key, sign, text = found.groups()
        value = _typed(text, _column(key, columns)[1])
        operator = _SIGNS[sign]
        conditions += _conditions(key, value if operator == "is" else {operator: value}, columns)
    return tuple(conditions)


def _conditions(key: str, value: Any, columns: Sequence[PayloadColumn]) -> list[Condition]:
    path, kind = _column(key, columns)
    if not isinstance(value, Mapping):
        return [Condition(path, kind, _test(key, kind, value))]
    if not value:
        raise UsageError(f"filter {_shown(key)} says nothing: write a value, or {{{', '.join(BOUNDS)}, not}}")
    found = []
    bounds: dict[Bound, float | datetime] = {}
    for operator, operand in value.items():
        if operator == "not":
            found.append(Condition(path, kind, _test(key, kind, operand), negated=True))
        elif operator in BOUNDS:
            bounds[operator] = _bound(key, kind, operand)
        else:
            known = f"there are {', '.join(BOUNDS)} and not"
            raise UsageError(f"filter {_shown(key)}: {_shown(operator)} is not known; {known}")
    if len({isinstance(bound, datetime) for bound in bounds.values()}) > 1:
        raise UsageError(f"filter {_shown(key)}: its bounds are a number and a time")
    return [*found, Condition(path, kind, Within(bounds))] if bounds else found


def _column(key: str, columns: Sequence[PayloadColumn]) -> tuple[Path, Kind]:
    if not is_filter_name(key):
        raise UsageError(
            f"the filter's {_shown(key)} has a double quote or a backslash in it, and no filter can name such a column"
        )
    for column in columns:
        if key == column.name:
            return column.path, column.kind
    for column in columns:
        if column.kind == "json" and key.startswith(f"{column.name}."):
            below = key[len(column.name) + 1 :].split(".")
            if all(below) and len(below) <= MAX_DEPTH:
                return (*column.path, *below), "json"
    names = [column.name for column in columns]
    close = get_close_matches(key[:MAX_TEXT], names, n=1)
    hint = f"is it {close[0]!r}?" if close else f"there are {', '.join(names) or 'none'}"
    raise UsageError(f"the filter's {_shown(key)} is no payload column; {hint}")


def _test(key: str, kind: Kind, value: Any) -> AnyOf | Absent:
    if value is None:
        return Absent()
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UsageError(f"filter {_shown(key)} is an empty list, which nothing is one of")
    if len(values) > MAX_VALUES:
        raise UsageError(f"filter {_shown(key)} has more than {MAX_VALUES} values")
    fitting = tuple(_fitting(key, kind, each) for each in values)
    if len({float if type(each) is int else type(each) for each in fitting}) > 1:
        raise UsageError(f"filter {_shown(key)}: its list holds values of several types")
    return AnyOf(fitting)


def _bound(key: str, kind: Kind, value: Any) -> float | datetime:
    if kind not in _NUMBERS | {"datetime", "json"}:
        raise UsageError(f"filter {_shown(key)}: bounds are for numbers and times; its column is of neither")
    fitting = _fitting(key, kind, value)
    if isinstance(fitting, str):
        return _time(key, fitting)
    if isinstance(fitting, bool):
        raise UsageError(f"filter {_shown(key)}: a boolean is no bound")
    if type(fitting) is int and abs(fitting) > MAX_BOUND:
        raise UsageError(f"filter {_shown(key)}: an integer bound is at most {MAX_BOUND:,}; equality takes any")
    return fitting


def _fitting(key: str, kind: Kind, value: Any) -> Scalar:
    """Return the value, if a column of that kind can hold it. Raises UsageError if not."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"filter {_shown(key)}: NaN and infinite numbers can't be compared")
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise UsageError(f"filter {_shown(key)}: the number is out of range")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise UsageError(f"filter {_shown(key)}: the text is longer than {MAX_TEXT} characters")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"filter {_shown(key)}: the text is not valid Unicode")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "json" if isinstance(value, str | bool) or is_number:
            return value  # type: ignore[no-any-return]  # one of these
        case "integer" | "float" if is_number:
            return value  # type: ignore[no-any-return]  # a number
        case "bool" if isinstance(value, bool):
            return value
        case "datetime" if isinstance(value, str):
            return _time(key, value)
        case "uuid" if isinstance(value, str):
            return _uuid(key, value)
        case "keyword" | "other" if isinstance(value, str):
            return value
    wanted = {
        "integer": "a number", "float": "a number", "bool": "true or false", "datetime": "a time as text, ISO 8601",
        "json": "text, a number, true or false",
    }.get(kind, "text")  # fmt: skip
    raise UsageError(f"filter {_shown(key)}: its column holds {kind} values; write {wanted}")


def _time(key: str, text: str) -> datetime:
    """Parse a time to UTC, as which times without a zone are read.

    No client must parse it: Qdrant's, for one, takes `20260131` for seconds since 1970.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"filter {_shown(key)} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _uuid(key: str, text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise UsageError(f"filter {_shown(key)} is no uuid") from None


def _typed(text: str, kind: Kind) -> Any:
    """Return a value from the command line: parsed as JSON if that fits the column, otherwise the text itself."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, Mapping) or (kind not in _NUMBERS | {"json", "bool"} and type(value) in (int, float, bool)):
        return text  # 1 and true are texts if the column holds text
    return value if not isinstance(value, float) or math.isfinite(value) else text


def _shown(key: str) -> str:
    """Return a name from a request in a form that fits a line."""
    return repr(key[:50].encode("ascii", "backslashreplace").decode())
