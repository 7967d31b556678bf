"""Two models of the same dimensions whose vectors are orthogonal: a vector of one that meets points of the other scores 0."""

from __future__ import annotations

import numpy as np

from reindexer.ports import Vectors
from reindexer.testing.provider import DIMENSIONS, vector_of

MODELS = ("torture-a", "torture-b")
HALF = DIMENSIONS // 2

PROFILES = "".join(f'[profiles.{model}]\nmodel = "{model}"\n' for model in MODELS)
"""A sources file."""


PRICES = "".join(
    f'[[price]]\nmodel = "{model}"\ndollars_per_million_tokens = 1\n' for model in ("text-embedding-3-small", *MODELS)
)
"""A file of prices."""
PLENTY = 10.0
"""Dollars that no run spends."""


def vector(model: str | None, text: str) -> Vectors:
    """What the provider answers for a text. Any other model than the second fills the first half."""
    half, none = vector_of(text, HALF), np.zeros(HALF, dtype=np.float32)
    return np.concatenate([none, half] if model == MODELS[1] else [half, none])


def other(model: str | None) -> str:
    """The model to change to."""
    return MODELS[0] if model == MODELS[1] else MODELS[1]
