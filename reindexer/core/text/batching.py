"""How texts are packed into provider requests, and lists into slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

HARMLESS = "a"
"""A text that no provider has a reason to refuse. A provider that refuses it refuses the request, or everything."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one provider request may hold."""

    max_inputs: int = 2048
    max_tokens: int = 300_000
    max_input_tokens: int = 8192
    """Maximum tokens of one input. Longer texts are cut into chunks."""


class RequestSize:
    """The number of texts per request, adapted to the provider's speed. Thread-safe.

    A request is to take a quarter of its timeout. A slow model gets smaller requests at once, and larger ones again as
    it becomes faster. A request that took no longer than that was not delayed by its size, so the next may be twice as
    large.
    """

    SHARE = 0.25
    GIVEN_UP = 8
    """After a timeout, requests shrink to this fraction (1/8) of the timed-out one. A local model keeps computing what
    nothing waits for any more, and must not be given much more of that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.inputs = most
        """The present maximum."""

    def answered(self, inputs: int, took_s: float, timeout_s: float) -> None:
        """Record that a request of so many inputs was answered."""
        fit = int(inputs * self.SHARE * timeout_s / max(took_s, 0.001))
        if took_s > 2 * self.SHARE * timeout_s:
            self.inputs = max(1, min(self.inputs, fit))
        elif self.inputs < self._most and 2 * inputs > self.inputs:  # a small request says nothing about a large one
            self.inputs = min(self._most, max(self.inputs, min(2 * inputs, fit)))

    def timed_out(self, inputs: int) -> None:
        """Record that a request of so many inputs timed out."""
        self.inputs = max(1, min(self.inputs, inputs // self.GIVEN_UP))


T = TypeVar("T")


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive slices of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def pack(token_counts: Sequence[int], limits: RequestLimits) -> Iterator[range]:
    """Split consecutive inputs into requests within the limits. Yields ranges of their indexes.

    An input that is larger than a whole request gets its own request: the provider then decides about it.
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
