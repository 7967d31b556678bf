"""What is known of payload columns: the kind of their values in Qdrant, by which they are indexed and filtered."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["integer", "float", "bool", "uuid", "keyword", "datetime", "json", "other"]
"""`json`: anything may be below it. `other`: text as Postgres prints the value."""

_KINDS: Mapping[str, Kind] = {
    "int2": "integer", "int4": "integer", "int8": "integer",
    "numeric": "float", "float4": "float", "float8": "float",
    "bool": "bool", "uuid": "uuid",
    "text": "keyword", "varchar": "keyword", "bpchar": "keyword", "name": "keyword", "citext": "keyword",
    "date": "datetime", "timestamp": "datetime", "timestamptz": "datetime",
    "json": "json", "jsonb": "json",
}  # fmt: skip

TENANT_KINDS: frozenset[Kind] = frozenset({"keyword", "uuid"})
"""Those that Qdrant can keep a tenant's points together by."""


@dataclass(frozen=True, slots=True)
class PayloadColumn:
    """A column, and whether it names the tenant."""

    name: str
    kind: Kind
    tenant: bool = False

    @property
    def indexed(self) -> bool:
        """Of JSON nobody knows which part is asked for; other values are only shown; some names no path can hold."""
        return self.kind not in ("json", "other") and has_path(self.name)


def has_path(name: str) -> bool:
    """Whether a path of Qdrant's can hold a name: in quotes it may have any character but these, and there is no escape
    (qdrant, lib/segment/src/json_path/parse.rs). A path that can't be parsed is refused with the whole request."""
    return '"' not in name and "\\" not in name


def kind_of(type_name: str, *, is_enum: bool) -> Kind:
    """The kind of a Postgres type (domains and arrays resolved), as `to_jsonb` writes its values."""
    return "keyword" if is_enum else _KINDS.get(type_name, "other")


MAX_LEVELS = 100
"""Of JSON within JSON. Qdrant reads 128, with those of the request around it; Python's own encoder some hundreds."""

_LONG_NUMBER = re.compile(r"\d{309}")
"""No number below 10^308, the largest that Qdrant keeps, has so many digits in a row; most texts hold no such run."""


class UnfitPayload(ValueError):
    """The payload can't be kept in Qdrant; the text says why, without its values."""


def read_payload(text: str) -> dict[str, Any]:
    """A payload as Postgres prints it. Raises UnfitPayload."""
    try:
        payload: dict[str, Any] = json.loads(text)
    except RecursionError:
        raise UnfitPayload(f"a payload column holds JSON of more than {MAX_LEVELS} levels") from None
    except ValueError:
        # Python refuses to make integers of more than 4,300 digits; else Postgres prints nothing that is not JSON.
        raise UnfitPayload("a payload column holds a number that is larger than a double can be") from None
    if text.count("[") + text.count("{") > MAX_LEVELS and any(level > MAX_LEVELS for level, _ in _values(payload)):
        raise UnfitPayload(f"a payload column holds JSON of more than {MAX_LEVELS} levels")
    # guard payload-number-range
    if _LONG_NUMBER.search(text) and any(_is_too_large(value) for _, value in _values(payload)):
        raise UnfitPayload("a payload column holds a number that is larger than a double can be")
    return payload


def _values(value: Any) -> Iterator[tuple[int, Any]]:
    """All values in it, with the number of arrays and objects around each and itself."""
    left = [(0, value)]
    while left:
        level, each = left.pop()
        within = each.values() if isinstance(each, dict) else each if isinstance(each, list) else None
        if within is not None:
            level += 1
            left += [(level, inner) for inner in within]
        yield level, each


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int | float) and not -sys.float_info.max <= value <= sys.float_info.max
