"""The form of a request to a server that speaks OpenAI's API: servers support different parts of it.

Plain data. `OpenAIEmbedder` finds out, with a harmless text, which form a server takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

Encoding = Literal["base64", "float"]
Dimensions = Literal["dimensions", "output_dimension"]
"""What servers call the number of dimensions: OpenAI, and Voyage."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a request asks for vectors. The default is the form that costs the least CPU and says the most."""

    encoding: Encoding | None = "base64"
    """None: left out of the request."""
    dimensions: Dimensions | None = "dimensions"
    """As what the request names the number of dimensions. None: not at all, as models that can't shorten their vectors
    refuse it."""
    listed: bool = True
    """False: one text per request, as a string."""

    def body(self, texts: Sequence[str], model: str, dimensions: int, input_type: str | None) -> dict[str, Any]:
        """The request's body. A form without a list takes the first text only.

        An `input_type` is never left out: the vectors would be others.
        """
        asked: dict[str, Any] = {"input": list(texts) if self.listed else texts[0], "model": model}
        if input_type:
            asked["input_type"] = input_type
        if self.encoding:
            asked["encoding_format"] = self.encoding
        if self.dimensions:
            asked[self.dimensions] = dimensions
        return asked

    def others(self, complaint: str) -> list[Form]:
        """All other forms: first those that change what the server complains of, and of these the nearest first."""
        complaint = complaint.lower()
        named = [name in complaint for name in ("encoding", "dimensions", "input")]

        def rank(other: Form) -> tuple[int, int]:
            pairs = ((self.encoding, other.encoding), (self.dimensions, other.dimensions), (self.listed, other.listed))
            changes = [mine != theirs for mine, theirs in pairs]
            return (sum(change != name for change, name in zip(changes, named, strict=True)), sum(changes))

        encodings: tuple[Encoding | None, ...] = ("base64", "float", None)
        names: tuple[Dimensions | None, ...] = ("dimensions", None, "output_dimension")
        forms = (Form(*each) for each in product(encodings, names, (True, False)))
        return sorted((form for form in forms if form != self), key=rank)
