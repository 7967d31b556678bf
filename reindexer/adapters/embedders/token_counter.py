"""Counts tokens as the model does where tiktoken is installed and its tables can be had; else estimates them.

Only for estimates of cost. Texts are cut by the estimate everywhere: hosts with and without the tables would otherwise
cut them differently.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reindexer.core.text.tokens import estimate_tokens

TABLES_S = 5.0
"""The time limit for the tables. They are downloaded once, and the download may be impossible."""


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """A way to count tokens: its name in words, and the function."""

    name: str
    count: Callable[[str], int]

    @property
    def is_exact(self) -> bool:
        """Whether it counts as the model does."""
        return self is not ESTIMATE


ESTIMATE = TokenCounter("estimate, rather too high", estimate_tokens)


def token_counter(model: str, *, within_s: float = TABLES_S) -> TokenCounter:
    """The model's own counter if it can be had within `within_s`; else, and for unknown models, the estimate."""
    found: list[TokenCounter] = []

    def look() -> None:
        try:
            encoding: Any = importlib.import_module("tiktoken").encoding_for_model(model)
            encoding.encode_ordinary("")
        except Exception:  # noqa: BLE001  whatever it is (no module, no network, no such model), there is the estimate
            return
        found.append(TokenCounter(f"tiktoken {encoding.name}", lambda text: len(encoding.encode_ordinary(text))))

    thread = threading.Thread(target=look, daemon=True, name="token tables")
    thread.start()
    thread.join(within_s)
    return found[0] if found else ESTIMATE
