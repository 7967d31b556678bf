"""Text that Postgres can store."""

from __future__ import annotations


def storable_text(text: str) -> str:
    """Return the text itself. Raises ValueError for NUL and lone surrogates, which Postgres can't store."""
    if "\x00" in text:  # guard api-nul-character-refusal
        raise ValueError("must not contain the NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain lone surrogates")
    return text
