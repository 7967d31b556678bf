"""Fingerprints: hashes of everything that a vector, or a payload, depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

TEXTS = "lines-1"
"""Name of the way in which a text is passed to the embedder. A different way needs a different name, so that items
become due."""


def text_fingerprint(text: str, embedder: str) -> str:
    """Return the hash of a text (rendered by its template) and of the embedder (its model and dimensions). 32 hex
    digits."""
    return digest([TEXTS, embedder, text])


def payload_fingerprint(payload: Mapping[str, Any]) -> str:
    """Return the hash of the payload columns' values. 32 hex digits."""
    return digest(payload)


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
"""Built once, because `json.dumps` builds an encoder for each call."""


def digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return the hash of a JSON value, whatever the order of its keys. 32 hex digits."""
    return hashlib.sha256(_encode(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]
