"""Fingerprints: hashes of everything that a vector, or a payload, depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

TEXTS = "lines-1"
"""Name of the way in which a text is passed to the embedder. A different way needs a different name, so that items
become due."""

RESERVED = "_reindexer"
"""No payload column has this name."""


def text_fingerprint(text: str, embedder: str, input_type: str | None = None) -> str:
    """Return the hash of a text as it is embedded and of the embedder: its model and dimensions, and the `input_type`
    that it is asked with, if any. 32 hex digits."""
    asked = [TEXTS, embedder, text]
    return digest(asked if input_type is None else [*asked, input_type])  # guard fingerprint-input-type


def payload_fingerprint(payload: Mapping[str, Any], text_key: str | None = None, keywords: str = "") -> str:
    """Return the hash of the payload columns' values and of the key, if any, under which texts stand beside them, 32
    hex digits; and behind it the fingerprint of the rules by which the keywords beside it are made. Empty: there are
    none."""
    whole = payload if text_key is None else {**payload, RESERVED: text_key}  # guard fingerprint-text-key
    return with_keywords(digest(whole), keywords)


def with_keywords(fingerprint: str, keywords: str) -> str:
    """Return a payload's fingerprint with those of other rules behind it."""
    payload = fingerprint.partition("-")[0]
    return f"{payload}-{keywords}" if keywords else payload


def keywords_of(payload_fingerprint: str | None) -> str:
    """Return the fingerprint of the rules by which the keywords beside a payload are made. Empty: there are none."""
    return (payload_fingerprint or "").partition("-")[2]


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
"""Built once, because `json.dumps` builds an encoder for each call."""


def digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return the hash of a JSON value, whatever the order of its keys. 32 hex digits."""
    return hashlib.sha256(_encode(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]
