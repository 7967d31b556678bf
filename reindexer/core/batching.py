"""How texts are packed into provider requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one provider request may hold."""

    max_inputs: int = 2048
    max_tokens: int = 300_000


def estimate_tokens(text: str) -> int:
    """A token count that is rarely too low: one per three bytes of UTF-8, at least one.

    English prose has about 4.5 bytes a token and CJK about 3, so requests stay within a provider's limit; exact
    counts would need tables that can't be had everywhere.
    """
    return max(1, (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // 3 + 1)


def pack(token_counts: Sequence[int], limits: RequestLimits) -> Iterator[range]:
    """Split consecutive inputs into requests within the limits; yields ranges of their indexes.

    An input that is larger than a whole request travels alone: the provider then decides about it.
    """
    start, tokens = 0, 0
    for index, count in enumerate(token_counts):
        full = index - start >= limits.max_inputs or tokens + count > limits.max_tokens
        if index > start and full:
            yield range(start, index)
            start, tokens = index, 0
        tokens += count
    if start < len(token_counts):
        yield range(start, len(token_counts))
