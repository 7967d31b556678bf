"""Payload columns: the kind of their values, which decides how the index stores and filters them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["integer", "float", "bool", "uuid", "keyword", "datetime", "json", "other"]
"""`json`: any structure. `other`: text as Postgres prints the value."""

_KINDS: Mapping[str, Kind] = {
    "int2": "integer", "int4": "integer", "int8": "integer",
    "numeric": "float", "float4": "float", "float8": "float",
    "bool": "bool", "uuid": "uuid",
    "text": "keyword", "varchar": "keyword", "bpchar": "keyword", "name": "keyword", "citext": "keyword",
    "date": "datetime", "timestamp": "datetime", "timestamptz": "datetime",
    "json": "json", "jsonb": "json",
}  # fmt: skip

TENANT_KINDS: frozenset[Kind] = frozenset({"keyword", "uuid"})
"""Kinds by which an index can keep a tenant's points together."""


Path = tuple[str | None, ...]
"""Where values lie in a payload: names, one below the other. None: in each element of a list."""


@dataclass(frozen=True, slots=True)
class PayloadColumn:
    """A column, as a filter names it, and whether it names the tenant."""

    name: str
    kind: Kind
    tenant: bool = False
    path: Path = field(default=())
    """Not given: the name alone, at the top of the payload."""

    def __post_init__(self) -> None:
        if not self.path:
            object.__setattr__(self, "path", (self.name,))

    @property
    def indexed(self) -> bool:
        """Whether the column gets a payload index.

        Not for JSON, where the queried part is unknown; not for `other`, which is only displayed; and not for names
        that no filter can hold.
        """
        return self.kind not in ("json", "other") and is_filter_name(self.name)


def is_filter_name(name: str) -> bool:
    """Whether a filter can name a column: an index may quote names in its paths, and have no escape in them."""
    return '"' not in name and "\\" not in name


def kind_of(type_name: str, *, is_enum: bool) -> Kind:
    """Return the kind of a Postgres type (domains and arrays resolved), as `to_jsonb` writes its values."""
    return "keyword" if is_enum else _KINDS.get(type_name, "other")


MAX_LEVELS = 100
"""Maximum depth of nested JSON. Readers take 128 levels, including those of the surrounding request; Python's encoder
some hundreds."""

_LONG_NUMBER = re.compile(r"\d{309}")
"""Every number of at least 10^308 without an exponent has this many digits in a row. Most texts hold no such run."""


class UnfitPayload(ValueError):
    """The payload can't be stored. The message says why, without its values."""


def read_payload(text: str) -> dict[str, Any]:
    """Parse a payload as Postgres prints it. Raises UnfitPayload."""
    try:
        payload: dict[str, Any] = json.loads(text)
    except RecursionError:
        raise UnfitPayload(f"a payload column holds JSON of more than {MAX_LEVELS} levels") from None
    except ValueError:
        # Python refuses to parse integers of more than 4,300 digits. Nothing else fails: Postgres prints only JSON.
        raise UnfitPayload("a payload column holds a number that is larger than a double can be") from None
    if text.count("[") + text.count("{") > MAX_LEVELS and any(level > MAX_LEVELS for level, _ in _values(payload)):
        raise UnfitPayload(f"a payload column holds JSON of more than {MAX_LEVELS} levels")
    # guard payload-number-range
    if _LONG_NUMBER.search(text) and any(_is_too_large(value) for _, value in _values(payload)):
        raise UnfitPayload("a payload column holds a number that is larger than a double can be")
    return payload


def _values(value: Any) -> Iterator[tuple[int, Any]]:
    """Yield all values in a JSON value, each with its depth: the number of arrays and objects around it, itself
    included."""
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
