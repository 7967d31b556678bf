"""What embedding costs, in US dollars. Prices change, so a setting overrides them."""

from __future__ import annotations

from urllib.parse import urlsplit

DOLLARS_PER_MILLION_TOKENS = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
"""OpenAI's own models, at OpenAI."""


def listed_price(base_url: str | None, model: str) -> float | None:
    """Return dollars per million tokens of a model at OpenAI. None: another server (by `base_url`), or an unknown
    price."""
    at_openai = not base_url or urlsplit(base_url).hostname == "api.openai.com"
    return DOLLARS_PER_MILLION_TOKENS.get(model) if at_openai else None


def dollars(tokens: int, per_million: float | None) -> float | None:
    """Return the price of `tokens` in dollars. None if the price per million is unknown."""
    return None if per_million is None else round(tokens / 1e6 * per_million, 4)
