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


class RequestSize:
    """How many texts go into one request, by what the provider did in time. Any number of threads may use one.

    A request is to take a quarter of its timeout: a slow model gets less at once, and more again as it grows quicker.
    What took no more than that was not held up by its size, and so twice as many are tried.
    """

    SHARE = 0.25
    GIVEN_UP = 8
    """A request that was given up is followed by ones of this part of it: a local model goes on computing what nobody
    waits for any more, and is not to be given much more of that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.inputs = most
        """At most, at present."""

    def answered(self, inputs: int, took_s: float, timeout_s: float) -> None:
        """A request of so many was answered."""
        fit = int(inputs * self.SHARE * timeout_s / max(took_s, 0.001))
        if took_s > 2 * self.SHARE * timeout_s:
            self.inputs = max(1, min(self.inputs, fit))
        elif self.inputs < self._most and 2 * inputs > self.inputs:  # a small one tells nothing of a large one
            self.inputs = min(self._most, max(self.inputs, min(2 * inputs, fit)))

    def timed_out(self, inputs: int) -> None:
        """A request of so many was not."""
        self.inputs = max(1, min(self.inputs, inputs // self.GIVEN_UP))


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
