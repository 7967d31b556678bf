"""What embedding costs. Prices change: a setting overrides them."""

from __future__ import annotations

DOLLARS_PER_MILLION_TOKENS = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
"""OpenAI's own, at OpenAI."""


def dollars(tokens: int, per_million: float | None) -> float | None:
    """The price of so many tokens; None where it is not known."""
    return None if per_million is None else round(tokens / 1e6 * per_million, 4)
