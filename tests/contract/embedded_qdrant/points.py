"""Points as this project writes them, and what it asks of them."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

NewName = Callable[[], str]

TOKEN = 1_754_000_000_000_123
"""Microseconds since 1970, as the fencing tokens are."""
FAILURES = (UnexpectedResponse, ResponseHandlingException, AssertionError)


def point(item_id: str, version: int = TOKEN, chunk: int = 0, **payload: Any) -> m.PointStruct:
    point_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{item_id}/{chunk}"))
    angle = int(uuid.UUID(point_id)) % 1000 / 1000
    own = {"source": "items", "item_id": item_id, "chunk": chunk, "version": version}
    return m.PointStruct(
        id=point_id, vector=[1.0, angle, angle / 2, 0.1], payload={"_reindexer": own, **payload} if version else payload
    )


def matches(field: str, value: Any) -> m.FieldCondition:
    return m.FieldCondition(key=f"_reindexer.{field}", match=m.MatchValue(value=value))


def older_than(token: int) -> m.FieldCondition:
    return m.FieldCondition(key="_reindexer.version", range=m.Range(lt=token))


def unless_newer(token: int) -> m.Filter:
    return m.Filter(must_not=[m.FieldCondition(key="_reindexer.version", range=m.Range(gte=token))])


def stored(client: QdrantClient, collection: str, **scroll: Any) -> dict[str, dict[str, Any]]:
    """Payloads by item id, or by point id where there is none."""
    records, _ = client.scroll(collection, limit=1000, **scroll)
    payloads = [(str(record.id), record.payload or {}) for record in records]
    return {payload.get("_reindexer", {}).get("item_id", point_id): payload for point_id, payload in payloads}


def refused(call: Callable[[], object]) -> UnexpectedResponse:
    with pytest.raises(UnexpectedResponse) as caught:
        call()
    return caught.value
