"""Items, their rows and the facts about them: the plain data that the steps of the queue pass on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any

from reindexer.core.keywords import Keywords
from reindexer.core.text.chunks import Span

POINT_NAMESPACE = uuid.UUID("6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e")
"""Must never change: another namespace would make every point of every user an orphan."""


_quoted = json.encoder.encode_basestring
"""Encodes a JSON string without the several objects that `json.dumps` creates."""


def point_id(source: str, item_id: str, chunk: int) -> str:
    """Return the id of one Qdrant point: a uuid5 over a JSON array, so that no choice of names can collide."""
    name = f"[{_quoted(source)}, {_quoted(item_id)}, {chunk}]".encode("utf-8", "surrogatepass")
    digest = sha1(POINT_NAMESPACE.bytes + name).digest()  # noqa: S324  as uuid5 does
    return str(uuid.UUID(bytes=digest[:16], version=5))


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """One due item under a claim's lease, with what the ledger records about it."""

    item_id: str
    version: int
    """The due row's version when it was claimed. A higher one at settling means that the item changed meanwhile."""
    attempts: int
    """Attempts including this one."""
    forced: bool
    doubtful: bool
    """In doubt: an earlier claim has no certain outcome, so the content of Qdrant is unknown."""
    text_fingerprint: str | None = None
    payload_fingerprint: str | None = None
    chunks: int = 0
    """Points that the last certain outcome left in Qdrant, or the number that may be there since."""
    known: bool = False
    """The ledger has a row, so the item existed once."""
    tries_since_failed: int = 0
    """Attempts since the item FAILED, including this one."""
    losses: int = 0
    """Number of its claims that were lost since it became due, because a worker died or stood still."""
    chunk_tokens: int | None = None
    """A chunk was too long for the provider: no chunk may hold more tokens than this. None: no such limit is known."""
    begun_upto: int | None = None
    """Earlier claims wrote some of its chunks and left the rest to the next claim. Chunks before this one were embedded
    since the item became due or was last requested. None: there was no such claim."""
    doubted_ago_s: float | None = None
    """Seconds since the item was last settled after a claim without a certain outcome. None: never.

    A late write of that claim may still come. Qdrant refuses it where a point exists, and creates a point where none
    does.
    """

    traces: tuple[str, ...] = ()
    """Of marked transactions that wrote it before the claim: the transaction's id, a space, and its traceparent."""

    @property
    def uncertain(self) -> bool:
        """Whether Qdrant's content may differ from the ledger."""
        return self.doubtful or self.begun_upto is not None  # guard begun-item-ledger-distrust


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is now."""

    item_id: str
    text: str
    """The text to embed: the text columns, joined by the source's template. Empty: nothing to embed."""
    payload: Mapping[str, Any]
    """Values of the payload columns, as JSON values."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Values of the text columns that the source's chunk header names."""


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One point of a source in the index, with the facts that the point holds."""

    item_id: str
    chunk: int
    token: int
    fingerprint: str
    """Empty if the point holds none."""
    payload: Mapping[str, Any] | None = None
    """The source's payload columns. None if they were not requested."""
    span: Span | None = None
    """Its place in the item's text. None if the point does not hold it."""
    keywords: Keywords | None = None
    """Its keywords. None if it has none, or if they were not requested."""
