"""Items, their rows, and what is known of them: the plain data that the change path hands from step to step."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from reindexer.core.text.chunks import Span

LANES = ("live", "bulk")
"""What is due is worked on in one of them: edits, and what they overtake."""

REQUEST_LANE = "bulk"
"""Where wishes wait."""

POINT_NAMESPACE = uuid.UUID("6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e")
"""Fixed for ever: another one would make every point of every user an orphan."""


_quoted = json.encoder.encode_basestring
"""A JSON string: what `json.dumps` needs several objects for."""


def point_id(source: str, item_id: str, chunk: int) -> str:
    """Id of one Qdrant point: uuid5 over a JSON array, so that no choice of names can collide."""
    name = f"[{_quoted(source)}, {_quoted(item_id)}, {chunk}]".encode("utf-8", "surrogatepass")
    digest = sha1(POINT_NAMESPACE.bytes + name).digest()  # noqa: S324  as uuid5 does
    return str(uuid.UUID(bytes=digest[:16], version=5))


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """One due item under the lease of a claim, with the facts of the ledger about it."""

    item_id: str
    version: int
    """The due row's counter when it was claimed: a higher one at settling means that the item changed meanwhile."""
    attempts: int
    """Attempts including this one."""
    forced: bool
    doubtful: bool
    """An earlier claim has no certain outcome: what lies in Qdrant is not known."""
    text_fingerprint: str | None = None
    payload_fingerprint: str | None = None
    chunks: int = 0
    """Points that the last certain outcome left in Qdrant, or so many as may be there since."""
    known: bool = False
    """The ledger has a row, so the item existed once."""
    healed: int = 0
    """Tries since it FAILED, this one included."""
    losses: int = 0
    """Claims of it that were lost since it became due: of a worker that died or stood still."""
    chunk_tokens: int | None = None
    """A chunk of it was too long for the provider: none may hold more than these. None: nothing is known of that."""
    begun_upto: int | None = None
    """Claims wrote some of its chunks, as far as they got, and left the others to the next. Those before this one were
    embedded since it became due, or was last wished for. None: none did."""
    doubted_ago_s: float | None = None
    """Seconds since it was last settled after a claim without certain outcome; None: never. A late write of that claim
    may still come: Qdrant refuses it where a point stands, and makes one where none does."""

    @property
    def uncertain(self) -> bool:
        """What lies in Qdrant is not what the ledger says."""
        return self.doubtful or self.begun_upto is not None  # guard begun-item-ledger-distrust


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is now."""

    item_id: str
    text: str
    """What is embedded: the text columns, as the source's template joins them. Empty: nothing is."""
    payload: Mapping[str, Any]
    """Values of the payload columns, as JSON values."""


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One point of a source as it lies in the index: what it says of itself."""

    item_id: str
    chunk: int
    token: int
    fingerprint: str
    """Empty where the point does not say."""
    payload: Mapping[str, Any] | None = None
    """The source's payload columns; None where they were not asked for."""
    span: Span | None = None
    """Its place in the item's text; None where the point does not say."""
