"""What requests to a provider cost: whom they are for, and the most that one may cost. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reindexer.core.token_range import FRAME

Purpose = Literal["edit", "backfill", "rebuild", "search", "probe"]
"""`rebuild`: for a generation that searches do not use. `probe`: to find out about a server."""


@dataclass(frozen=True, slots=True)
class Charged:
    """Whom requests are charged to, and at which price."""

    source: str
    account: str
    """A hash of the server and the API key."""
    model: str
    price: float | None
    """Dollars per million tokens, which is micro-dollars per token. None: not known."""


def most_tokens(texts: Sequence[str]) -> int:
    """Return the most tokens that a provider can count in a request: no tokenizer makes more of a text than it has
    bytes, beside what frames it. Of a request that is refused the same pays for the harmless texts sent instead."""
    return sum(len(text.encode("utf-8", "surrogatepass")) + FRAME for text in texts)
