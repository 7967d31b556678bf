"""An independent comparison of table and index: SQL on the one side, Qdrant's own client on the other."""

from __future__ import annotations

from reindexer.postgres.connect import Connection
from reindexer.testing.provider import vector_of
from tests.support.index_reader import IndexReader

CONTEXT_ITEMS = "SELECT id::text, concat_ws(E'\\n', title, content) FROM context_items"


def differences(db: Connection, index: IndexReader, query: str = CONTEXT_ITEMS) -> list[str]:
    """What is lost, stale or extra; `query` gives item ids and the texts that they should be found by."""
    rows = {str(item_id): str(text) for item_id, text in db.execute(query.encode())}
    found = [f"lost or stale: {item_id} {text!r}" for item_id, text in rows.items()
             if not index.holds(item_id, vector_of(text))]  # fmt: skip
    extra = index.count() - len(rows)
    return found + ([f"extra: {extra}"] if extra > 0 else [])
