"""Long keys: a key that fits its own table's index may be too long for ours, so a shorter name replaces it.

The name is computed only in SQL (`reindexer.item_name`). The drain, reindex requests and scans record it together with
the key that it stands for. Everything else uses the name; only reading a row looks up its key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.keys import canonical_id

MAX_BYTES = 2600
"""Maximum bytes of a key that is its own name. With the source's name it fits into a B-tree entry of 2,704 bytes."""

_NAME = re.compile(r".{200}\.\.\.sha256:[0-9a-f]{64}", re.DOTALL)


def is_too_long(key: str) -> bool:
    """Whether a key is replaced by a name."""
    return len(key) > MAX_BYTES // 4 and len(key.encode("utf-8", "surrogatepass")) > MAX_BYTES


def names(connection: Connection, source: Source, keys: Sequence[str]) -> list[str]:
    """Return the item ids of these keys, and record the keys of those that are names."""
    if not any(map(is_too_long, keys)):
        return list(keys)
    parameters = {"source": source.name, "keys": list(keys)}
    return [str(name) for (name,) in connection.execute(load("long_keys.sql")["names"], parameters)]


def name(connection: Connection, key: str) -> str:
    """Return the item id of a key."""
    if not is_too_long(key):
        return key
    row = connection.execute(load("long_keys.sql")["name"], {"key": key}).fetchone()
    return str(row[0]) if row else key


def item_id_of(connection: Connection, source: Source, given: str) -> str:
    """Return the item id of a key in any spelling. What can't be a key of the source stays as it is: no item has it."""
    with suppress(SourceError):
        given = canonical_id(connection, source, given) or given
    return name(connection, given)


def keys(connection: Connection, source: Source, item_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the keys of those ids that are names of long keys. An id that only looks like a name is left out."""
    found = [item_id for item_id in item_ids if len(item_id) == 274 and _NAME.fullmatch(item_id)]
    if not found:
        return {}
    parameters = {"source": source.name, "names": found}
    return dict(connection.execute(load("long_keys.sql")["keys"], parameters).fetchall())
