"""Converts item ids as clients write them to the form in which Postgres prints the key, many in one call.

`reindexer.sources.keys.canonical_id` has the server convert one id. Here it is done in Python, because a request of
1,000 ids would take another round trip, and more of them to find the one that the server refuses. They convert alike
what both accept. Only the server accepts spaces around a number, and only Python the prefix `urn:uuid:`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from reindexer.core.errors import UsageError
from reindexer.core.text.storable import storable_text

MAX_BYTES = 2600
"""The most bytes of a text key: about what an index entry of Postgres can hold."""

_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_UUID = TypeAdapter(UUID)


class MalformedId(ValueError):
    """The id can't be a key of the source."""


class UnfitKey(UsageError):
    """One of several ids can't be a key of the source."""

    def __init__(self, place: int, key_types: Sequence[str]) -> None:
        """`place`: from 0 on, among the given ids."""
        self.place = place
        super().__init__(f"ids.{place} is not a key of the source ({' and '.join(key_types)})")


def distinct_ids(given: Sequence[Any], key_types: Sequence[str]) -> list[str]:
    """The item ids of keys as `canonical_id` converts them, each once, in the order of their first appearance.

    Raises UnfitKey, which says the place of a key that can't be the source's, and never its value.
    """
    item_ids: dict[str, None] = {}
    for place, each in enumerate(given):
        try:
            item_ids[canonical_id(each, key_types)] = None
        except MalformedId:
            raise UnfitKey(place, key_types) from None
    return list(item_ids)


def canonical_id(given: Any, key_types: Sequence[str]) -> str:
    """The item id of a key written as text or integer, or of a composite key as a JSON array of its parts.

    `key_types`: as from `reindexer.sources.keys.key_types`. Raises MalformedId.
    """
    if len(key_types) == 1:
        return _canonical_key(given, key_types[0])
    parts = _parts(given)
    if len(parts) != len(key_types):
        raise MalformedId
    # The form in which Postgres prints a jsonb array of strings.
    return json.dumps([_canonical_key(*each) for each in zip(parts, key_types, strict=True)], ensure_ascii=False)


def _parts(given: Any) -> list[Any]:
    try:
        parts = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        raise MalformedId from None
    if not isinstance(parts, list):
        raise MalformedId
    return parts


def _canonical_key(given: Any, key_type: str) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise MalformedId
    if bits := _BITS.get(key_type):
        if not _INTEGER.fullmatch(str(given) if isinstance(given, str) or abs(given) < 2**63 + 1 else ""):
            raise MalformedId
        number = int(given)
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise MalformedId
        return str(number)
    if not isinstance(given, str):
        raise MalformedId
    if key_type == "uuid":
        try:
            return str(_UUID.validate_python(given))
        except ValidationError:
            raise MalformedId from None
    return _text_key(given)


def _text_key(given: str) -> str:
    try:
        text = storable_text(given)
    except ValueError:
        raise MalformedId from None
    if len(text.encode()) > MAX_BYTES:
        raise MalformedId
    return text
