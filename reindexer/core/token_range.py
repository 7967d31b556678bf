"""How many tokens texts have, as a range: exact by a tokenizer, narrow where it was measured, else by an estimate.

Prices hold for the provider's own count. Where nobody here can count as the provider does, one number would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MEASURED_TEXTS = 500
"""So many texts of a source have to be embedded by a model before what they had counts."""
MEASURED_MARGIN = 0.05
"""What is still to be embedded may differ this much from what was."""
OPENAI = (0.45, 1.5)
"""A count by OpenAI's tables, as a multiple of our estimate. See `estimate_tokens`."""
LONGEST_TOKEN = 6.0
"""Characters of a token, on average over a text, by the tokenizers of multilingual models."""
SHORTEST = 2.5
"""A count by a foreign tokenizer is no larger multiple of our estimate. A model for one language may come near in
another."""
FRAME = 4
"""Tokens that a server may add to a text: its beginning, its end, a short prefix."""

CountedBy = Literal["tokenizer", "measured", "openai", "estimate"]


@dataclass(frozen=True, slots=True)
class Range:
    """Between these two."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)

    def widened(self, by: float) -> Range:
        """Return a range that is wider at both ends by a part of them."""
        return Range(self.low * max(0.0, 1 - by), self.high * (1 + by))


@dataclass(frozen=True, slots=True)
class Measured:
    """What workers have embedded of one source by one model."""

    texts: float = 0.0
    tokens: float = 0.0
    """As the provider counts."""
    estimated: float = 0.0
    """The same texts by our estimate."""
    characters: float = 0.0

    @property
    def is_enough(self) -> bool:
        """Whether it tells what other texts of the source have. It does not if the provider counts no tokens."""
        return self.texts >= MEASURED_TEXTS and min(self.tokens, self.estimated, self.characters) > 0

    def told(self, texts: Texts) -> Range:
        """Return the tokens of other texts of the source, by their estimate and by their characters.

        The two agree while the texts are like those that were measured, and part if they are not.
        """
        by_estimate = texts.estimated * self.tokens / self.estimated
        by_characters = texts.characters * self.tokens / self.characters
        return Range(min(by_estimate, by_characters), max(by_estimate, by_characters))


@dataclass(slots=True)
class Texts:
    """Sums over texts."""

    number: int = 0
    characters: int = 0
    size: int = 0
    """In bytes of UTF-8."""
    estimated: int = 0
    exact: int = 0
    """By the model's tokenizer, where it is there."""

    def add(self, text: str, estimated: int, exact: int) -> None:
        """Add a text."""
        self.number += 1
        self.characters += len(text)
        self.size += len(text.encode("utf-8", "surrogatepass"))
        self.estimated += estimated
        self.exact += exact


def counted_by(*, tokenizer: bool, measured: Measured, at_openai: bool) -> CountedBy:
    """Return the best of the ways to count."""
    if tokenizer:
        return "tokenizer"
    if measured.is_enough:  # guard plan-measured-tokens
        return "measured"
    return "openai" if at_openai else "estimate"


def token_range(least: Texts, most: Texts, by: CountedBy, measured: Measured) -> Range:
    """Return the tokens of texts of which some (`least`) are certain to be embedded, and no more than others (`most`).

    Without a tokenizer the upper end is at most one token a byte: no tokenizer makes more.
    """
    if by == "tokenizer":
        return Range(least.exact, most.exact)
    if by == "measured":
        return Range(measured.told(least).low, measured.told(most).high).widened(MEASURED_MARGIN)
    if by == "openai":
        return Range(least.estimated * OPENAI[0], min(most.estimated * OPENAI[1], most.size + most.number))
    low = min(least.estimated * OPENAI[0], least.characters / LONGEST_TOKEN)
    return Range(low, min(most.estimated * SHORTEST, most.size) + FRAME * most.number)


def sampling_error(values: Iterable[int]) -> float:
    """Return how much a total that is extrapolated from some of the items may be off, as a part of it.

    Three standard errors, and at most all of it. The items come from whole blocks of a table, and neighbours are
    alike.
    """
    each = list(values)
    total = sum(each)
    if len(each) < 2 or not total:
        return 1.0 if each else 0.0
    mean = total / len(each)
    variance = sum((value - mean) ** 2 for value in each) / (len(each) - 1)
    return min(1.0, 3 * math.sqrt(variance / len(each)) / mean)
