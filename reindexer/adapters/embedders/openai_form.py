"""The form of a request to a server that speaks OpenAI's API: servers take more or less of it.

Plain data. Which form a server takes is found out by `OpenAIEmbedder`, with a harmless text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

Encoding = Literal["base64", "float"]


@dataclass(frozen=True, slots=True)
class Form:
    """How texts are asked for. The first choice is the one that costs the least CPU and says the most."""

    encoding: Encoding | None = "base64"
    """None: not said."""
    dimensions: bool = True
    """Whether the number of dimensions is asked for: models that can't shorten their vectors refuse it."""
    listed: bool = True
    """False: one text a request, as a string."""

    def body(self, texts: Sequence[str], model: str, dimensions: int) -> dict[str, Any]:
        """The request. One text where the form has no list."""
        asked: dict[str, Any] = {"input": list(texts) if self.listed else texts[0], "model": model}
        if self.encoding:
            asked["encoding_format"] = self.encoding
        if self.dimensions:
            asked["dimensions"] = dimensions
        return asked

    def others(self, complaint: str) -> list[Form]:
        """All other forms: those that change what the server complains of first, and of these the nearest."""
        complaint = complaint.lower()
        named = [name in complaint for name in ("encoding", "dimensions", "input")]

        def rank(other: Form) -> tuple[int, int]:
            pairs = ((self.encoding, other.encoding), (self.dimensions, other.dimensions), (self.listed, other.listed))
            changes = [mine != theirs for mine, theirs in pairs]
            return (sum(change != name for change, name in zip(changes, named, strict=True)), sum(changes))

        encodings: tuple[Encoding | None, ...] = ("base64", "float", None)
        forms = (Form(*each) for each in product(encodings, (True, False), (True, False)))
        return sorted((form for form in forms if form != self), key=rank)
