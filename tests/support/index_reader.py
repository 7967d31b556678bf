"""An independent reader of Qdrant: the official client, and nothing of ours but the rule of point ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client import QdrantClient

from reindexer.core.items import point_id
from reindexer.ports import Vectors


class IndexReader:
    """Reads the points of one source by its alias."""

    def __init__(self, client: QdrantClient, alias: str = "context_items") -> None:
        self.client = client
        self.alias = alias

    def payload(self, item_id: str, chunk: int = 0) -> dict[str, Any] | None:
        """The payload of one point, or None."""
        if not self.exists():
            return None
        records = self.client.retrieve(self.alias, [point_id(self.alias, item_id, chunk)], with_payload=True)
        return records[0].payload if records else None

    def vector(self, item_id: str, chunk: int = 0) -> Vectors | None:
        """The vector of one point, or None."""
        records = self.client.retrieve(self.alias, [point_id(self.alias, item_id, chunk)], with_vectors=True)
        return np.asarray(records[0].vector, dtype=np.float32) if records else None

    def holds(self, item_id: str, vector: Vectors) -> bool:
        """True if the item's point has this vector (Qdrant normalises, and stores float32)."""
        stored = self.vector(item_id) if self.exists() else None
        return stored is not None and bool(np.allclose(stored, vector, atol=1e-4))

    def count(self) -> int:
        """How many points there are."""
        return self.client.count(self.alias, exact=True).count if self.exists() else 0

    def exists(self) -> bool:
        """True once the alias is there."""
        return any(a.alias_name == self.alias for a in self.client.get_aliases().aliases)
