"""Long keys: a key that fits the index of its own table need not fit ours, so it goes by a name.

The name is made in SQL alone (`reindexer.item_name`): the drain, wishes and walks write it down, with the key that it
stands for. Everything goes by names; only where a row is read is its key asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

MAX_BYTES = 2600
"""Of a key that is its own name: with the source's it fits into a page's index entry, which has 2,704."""

_NAME = re.compile(r".{200}\.\.\.sha256:[0-9a-f]{64}", re.DOTALL)


def is_too_long(key: str) -> bool:
    """Whether a key goes by a name."""
    return len(key) > MAX_BYTES // 4 and len(key.encode("utf-8", "surrogatepass")) > MAX_BYTES


def names(connection: Connection, source: Source, keys: Sequence[str]) -> list[str]:
    """What the items of these keys are called; what stands for a long one is noted."""
    if not any(map(is_too_long, keys)):
        return list(keys)
    parameters = {"source": source.name, "keys": list(keys)}
    return [str(name) for (name,) in connection.execute(load("long_keys.sql")["names"], parameters)]


def name(connection: Connection, key: str) -> str:
    """What the item of a key is called."""
    if not is_too_long(key):
        return key
    row = connection.execute(load("long_keys.sql")["name"], {"key": key}).fetchone()
    return str(row[0]) if row else key


def keys(connection: Connection, source: Source, item_ids: Sequence[str]) -> Mapping[str, str]:
    """The keys that names among these stand for. What only looks like a name stands for itself, and is not told."""
    found = [item_id for item_id in item_ids if len(item_id) == 274 and _NAME.fullmatch(item_id)]
    if not found:
        return {}
    parameters = {"source": source.name, "names": found}
    return dict(connection.execute(load("long_keys.sql")["keys"], parameters).fetchall())
