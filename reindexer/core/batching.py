"""How texts are packed into provider requests, and lists into stretches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

HARMLESS = "a"
"""A text that no provider has a reason to refuse: who does not take it refuses the request, or everything."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one provider request may hold."""

    max_inputs: int = 2048
    max_tokens: int = 300_000
    max_input_tokens: int = 8192
    """Of one input. Longer texts are cut into chunks."""


T = TypeVar("T")


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive stretches of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


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
