"""What is known of payload columns: the kind of their values in Qdrant, by which they are indexed and filtered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
