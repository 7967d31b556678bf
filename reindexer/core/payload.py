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
        """Of JSON nobody knows which part is asked for; other values are only shown; and no path of Qdrant's can name a
        column with a double quote in its name."""
        return self.kind not in ("json", "other") and '"' not in self.name


def kind_of(type_name: str, *, is_enum: bool) -> Kind:
    """The kind of a Postgres type (domains and arrays resolved), as `to_jsonb` writes its values."""
    return "keyword" if is_enum else _KINDS.get(type_name, "other")
