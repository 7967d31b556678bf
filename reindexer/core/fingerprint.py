"""Fingerprints: hashes of all that a vector, or a payload, depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from reindexer.core.items import Row

TEMPLATE = "lines-1"
"""Name of the way in which columns become one text; another way needs another name, so that items are seen as due."""


def render_text(row: Row) -> str:
    """The text that is embedded: the non-blank text columns, a line each. Blank means that there is nothing to embed.

    Lone surrogates (possible in text that came through JSON) can't be encoded for any provider: they become '?'.
    """
    text = "\n".join(part for part in (value.strip() for value in row.texts if value) if part)
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def text_fingerprint(text: str, embedder: str) -> str:
    """Hash of text, template and embedder (its model and dimensions). 32 hex digits."""
    return _digest([TEMPLATE, embedder, text])


def payload_fingerprint(payload: Mapping[str, Any]) -> str:
    """Hash of the payload columns' values. 32 hex digits."""
    return _digest(payload)


def _digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]
