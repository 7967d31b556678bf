"""How many tokens a text is, as far as that can be told without the model's tables."""

from __future__ import annotations

_WEIGHTS: tuple[tuple[bytes, float], ...] = (
    (bytes(range(ord("a"), ord("z") + 1)), 0.3),
    (b" \t\r\n", 0.1),
    (bytes(range(ord("A"), ord("Z") + 1)), 0.6),
    (bytes(range(128, 240)), 0.42),
    (bytes(range(240, 256)), 1.0),
)
"""Tokens a byte of UTF-8; the last are the first bytes of what lies beyond the basic plane, emoji among them."""
_OTHER = 0.7
"""Digits and punctuation."""


def estimate_tokens(text: str) -> int:
    """A token count that is rarely too low, at least one. Fast: 2 MB in a few milliseconds.

    Compared with OpenAI's tokenizer it is 1.3 to 1.5 times too high for prose, code and JSON, 1.05 to 1.4 for other
    scripts; up to 1.5 times too low for what is no language (base64, random letters).
    """
    data = text.encode("utf-8", "surrogatepass")
    tokens, other = 1.0, len(data)
    for characters, weight in _WEIGHTS:
        count = len(data) - len(data.translate(None, characters))
        tokens += count * weight
        other -= count
    return int(tokens + other * _OTHER)
