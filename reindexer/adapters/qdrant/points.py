"""A point's payload: the source's payload columns, and our facts under `_reindexer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from qdrant_client import models

from reindexer.core.items import StoredPoint, point_id
from reindexer.core.keywords import Keywords
from reindexer.core.text.chunks import Span
from reindexer.ports import Hit, Numbers, Point, StoredVector

FACTS = "_reindexer"

MEANING, KEYWORDS = "", "bm25"
"""Names of a point's vectors. The vector of its meaning has no name, as in collections that hold no keywords."""

MAX_TOKEN = 2**53
"""Tokens are microseconds since 1970, which stay below this. A larger number is not ours."""


def payload_of(source: str, point: Point, token: int) -> dict[str, Any]:
    """The payload to be stored."""
    facts = {
        "source": source,
        "item_id": point.item_id,
        "chunk": point.chunk,
        "version": token,
        "fingerprint": point.fingerprint,
        "span": [point.span.start, point.span.end] if point.span else None,
    }
    return {**point.payload, FACTS: facts}


def own_point(source: str, record: models.Record) -> StoredPoint | None:
    """The point, if its facts name the source and its id is the one that follows from them; None for any other."""
    facts = (record.payload or {}).get(FACTS)
    if not isinstance(facts, dict) or facts.get("source") != source:
        return None
    item_id, chunk, token = facts.get("item_id"), facts.get("chunk"), facts.get("version")
    if not _could_be_key(item_id) or not isinstance(chunk, int) or not _is_token(token):
        return None
    if str(record.id) != point_id(source, item_id, chunk):
        return None
    return StoredPoint(item_id, chunk, token, str(facts.get("fingerprint") or ""), span=_span(facts))


def stored_point(item_id: str, chunk: int, record: models.Record) -> StoredPoint:
    """The point under one of our ids, whatever its payload says."""
    payload = dict(record.payload or {})
    facts = payload.pop(FACTS, None)
    facts = facts if isinstance(facts, dict) else {}
    token = facts.get("version")
    fingerprint = str(facts.get("fingerprint") or "")
    stands = token if _is_token(token) else 0
    return StoredPoint(item_id, chunk, stands, fingerprint, payload, _span(facts), _keywords(record))


def stored_vector(record: models.Record) -> StoredVector:
    """The vector of a point, with its fingerprint."""
    facts = (record.payload or {}).get(FACTS)
    fingerprint = facts.get("fingerprint") if isinstance(facts, dict) else None
    return StoredVector(str(fingerprint or ""), meaning_of(record))


def meaning_of(record: models.Record) -> list[float]:
    """The vector of a point's meaning, as the client read it."""
    return cast("list[float]", record.vector[MEANING] if isinstance(record.vector, dict) else record.vector)


def numbers(vector: Numbers) -> list[float]:
    """A vector as Qdrant's client takes it."""
    return vector if isinstance(vector, list) else vector.tolist()


def sparse(keywords: Keywords | None) -> models.SparseVector:
    """The keywords as Qdrant's client takes them."""
    indices, values = keywords or ((), ())
    return models.SparseVector.model_construct(indices=list(indices), values=list(values))


def _keywords(record: models.Record) -> Keywords | None:
    found = record.vector.get(KEYWORDS) if isinstance(record.vector, dict) else None
    if not isinstance(found, models.SparseVector):
        return None
    pairs = sorted(zip(found.indices, found.values, strict=True))
    return Keywords(tuple(index for index, _ in pairs), tuple(value for _, value in pairs))


def hit_of(point: models.ScoredPoint) -> Hit:
    """A point of ours that a search found."""
    payload = dict(point.payload or {})
    facts = payload.pop(FACTS)
    span, fingerprint = facts.get("span"), str(facts.get("fingerprint") or "")
    place = (span[0], span[1]) if span else None
    return Hit(facts["item_id"], point.score, facts["chunk"], place, payload, fingerprint)


def _span(facts: Mapping[str, Any]) -> Span | None:
    span = facts.get("span")
    return Span(*span) if isinstance(span, list) and [type(each) for each in span] == [int, int] else None


def _could_be_key(item_id: Any) -> TypeGuard[str]:
    """Text that Postgres can hold: no NUL, no lone surrogate."""
    if not isinstance(item_id, str) or "\x00" in item_id:
        return False
    return item_id.isascii() or not any("\ud800" <= character <= "\udfff" for character in item_id)


def _is_token(token: Any) -> TypeGuard[int]:
    return type(token) is int and 0 <= token < MAX_TOKEN
