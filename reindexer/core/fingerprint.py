"""Fingerprints: hashes of all that a vector, or a payload, depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

TEXTS = "lines-1"
"""Name of the way in which a text is handed to the embedder; another way needs another name, so that items are due."""


def text_fingerprint(text: str, embedder: str) -> str:
    """Hash of the text, as its template made it, and of the embedder (its model and dimensions). 32 hex digits."""
    return digest([TEXTS, embedder, text])


def payload_fingerprint(payload: Mapping[str, Any]) -> str:
    """Hash of the payload columns' values. 32 hex digits."""
    return digest(payload)


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
"""`json.dumps` makes an encoder for each call."""


def digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    """Hash of a JSON value, whatever the order of its keys. 32 hex digits."""
    return hashlib.sha256(_encode(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]
