"""What embedding costs, in US dollars. Prices change, so a file and a setting override them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
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


@dataclass(frozen=True, slots=True)
class PriceList:
    """A user's prices: dollars per million tokens by server and model. The server None stands for all."""

    prices: Mapping[tuple[str | None, str], float] = field(default_factory=dict)

    def price(self, server: str | None, model: str) -> float | None:
        """Return the price of a model at a server (host, or host and port, without credentials); None: not listed."""
        at_server = self.prices.get((_host(server), model)) if server else None
        return self.prices.get((None, model)) if at_server is None else at_server


def read_price_list(document: Mapping[str, Any]) -> PriceList:
    """Read a file of prices: tables `[[price]]`. Raises ValueError, fit to be shown."""
    prices: dict[tuple[str | None, str], float] = {}
    if unknown := document.keys() - {"price"}:
        raise ValueError(f"{min(unknown)!r} is nothing that it may hold: each price is a table [[price]]")
    entries = document.get("price", [])
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ValueError("each price is a table [[price]]")
    for number, each in enumerate(entries, 1):
        model, server, price = each.get("model"), each.get("base_url"), each.get("dollars_per_million_tokens")
        if unknown := each.keys() - {"model", "base_url", "dollars_per_million_tokens"}:
            raise ValueError(f"price {number}: {min(unknown)!r} is not known")
        if not isinstance(model, str) or not model:
            raise ValueError(f"price {number}: it names no `model`")
        if server is not None and not (isinstance(server, str) and _host(server)):
            raise ValueError(f"price {number}: `base_url` is no URL")
        if isinstance(price, bool) or not isinstance(price, int | float) or not (math.isfinite(price) and price >= 0):
            raise ValueError(f"price {number}: `dollars_per_million_tokens` is no amount of dollars")
        prices[_host(server) if server else None, model] = float(price)
    return PriceList(prices)


def _host(url: str) -> str | None:
    return urlsplit(url).netloc.rpartition("@")[2].lower() or None


def dollars(tokens: int, per_million: float | None) -> float | None:
    """Return the price of `tokens` in dollars. None if the price per million is unknown."""
    return None if per_million is None else round(tokens / 1e6 * per_million, 4)
