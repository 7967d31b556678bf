"""The built-in embedder `static`, which matches meaning: a text's vector is the sum of the vectors of its word pieces.

The vectors were distilled from a sentence model (`static_model/README.md`). No key, no download, nothing leaves the
machine. The model knows English. Words that it does not know, in other scripts for example, it compares by their
letters, as `hashing` does. It ignores the order of words.

All sums are of integers: a text has the same vector in every batch, in every process and on every machine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b, shake_128
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reindexer.adapters.embedders.static_model import FOLDER, VECTORS, VOCABULARY
from reindexer.adapters.embedders.wordpiece import LONGEST_WORD, pieces, words
from reindexer.core.errors import UsageError
from reindexer.core.text.batching import RequestLimits
from reindexer.ports import EmbedderConfig, Embedding, Vector

METHOD = "static-1"
"""The method by which pieces become a vector. A changed method needs another name."""
NAME = "all-minilm-l6-v2"
MAX_TOKENS = 512
"""Of one text. A longer text says more than the sum of its words can tell."""
MAX_INPUTS = 256
"""Of one call, which then takes about 0.1 s."""

_WORDS = 50_000
_STRANGE_WORDS = 10_000
"""How many words' pieces and how many unknown words' vectors are cached: at most 5 MB and 3 MB."""
_NOISE_SHIFT = 2
"""Makes an unknown word's vector about as long as that of a rare known word."""


@dataclass(frozen=True, slots=True)
class StaticModel:
    """A vocabulary, and an integer vector for each of its pieces."""

    vectors: NDArray[np.int8]
    numbers: Mapping[str, int]
    name: str
    """Ends with a hash of both files: other files make another model."""

    @classmethod
    def load(cls, folder: Path = FOLDER) -> StaticModel:
        """Read the files. The vectors are mapped from their file, so all processes share the memory."""
        vocabulary = (folder / VOCABULARY).read_bytes()
        hashed = blake2b(vocabulary, digest_size=4)
        hashed.update((folder / VECTORS).read_bytes())  # guard embedder-model-file-hash
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        numbers = {piece: number for number, piece in enumerate(vocabulary.decode("utf-8").rstrip("\n").split("\n"))}
        return cls(vectors, numbers, f"{NAME}-{hashed.hexdigest()}")


_lock = threading.Lock()
_loaded: list[StaticModel] = []


def built_in_model() -> StaticModel:
    """The package's own model, loaded once per process."""
    with _lock:
        if not _loaded:
            _loaded.append(StaticModel.load())
        return _loaded[0]


class StaticEmbedder:
    """`Embedder` without a provider: deterministic, unit length, never fails."""

    in_process = True

    def __init__(self, model: StaticModel | None = None) -> None:
        self._model = model or built_in_model()
        self._pieces = lru_cache(_WORDS)(partial(pieces_of, numbers=self._model.numbers))
        self._letters = lru_cache(_STRANGE_WORDS)(partial(by_letters, dimensions=self.dimensions))

    @classmethod
    def from_config(cls, config: EmbedderConfig) -> StaticEmbedder:
        """See `reindexer.registry`. Raises UsageError if the profile wants another model than the built-in one."""
        made, profile = cls(), config.profile
        asked = {"model": profile.model, "dimensions": profile.dimensions}
        for name, has in {"model": made.model, "dimensions": made.dimensions}.items():
            if asked[name] not in (None, has):
                raise UsageError(
                    f"its profile's {name} is {asked[name]!r}, the built-in embedder `static` has {has!r}; leave "
                    f"{name} out, or name another provider"
                )
        return made

    @property
    def model(self) -> str:
        """Its name."""
        return self._model.name

    @property
    def fingerprint(self) -> str:
        """The method's version, the model and the dimensions."""
        return f"{METHOD}:{self._model.name}:{self.dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return int(self._model.vectors.shape[1])

    @property
    def limits(self) -> RequestLimits:
        """Limits at which a long text is cut into chunks, so that a search can find its parts."""
        return RequestLimits(MAX_INPUTS, MAX_INPUTS * MAX_TOKENS, MAX_TOKENS)

    def count_tokens(self, text: str) -> int:
        """The number of pieces in a text; an unknown word counts as one."""
        return sum(len(self._pieces_of_known(word)) or 1 for word in words(text))

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:  # noqa: ARG002  nobody to wait for
        """See `reindexer.ports.Embedder.embed`."""
        return Embedding(np.stack([self._vector(text) for text in texts]), 0)

    def _vector(self, text: str) -> Vector:
        known: list[int] = []
        unknown: list[str] = []
        for word in words(text):
            if found := self._pieces_of_known(word):
                known += found
            else:
                unknown.append(word)
        total = self._model.vectors[known].sum(axis=0, dtype=np.int32)
        for word in unknown:
            total += self._letters(word) if len(word) <= LONGEST_WORD else by_letters(word, self.dimensions)
        if not total.any():  # no words, or only words without a meaning: "the"
            total = _noise(" ".join(words(text)) or text, self.dimensions).astype(np.int32)
        exact = total.astype(np.float64)
        vector: Vector = (exact / np.sqrt((exact * exact).sum())).astype(np.float32)
        return vector

    def _pieces_of_known(self, word: str) -> tuple[int, ...]:
        return self._pieces(word) if len(word) <= LONGEST_WORD else ()


def pieces_of(word: str, numbers: Mapping[str, int]) -> tuple[int, ...]:
    """The pieces of a word that the model knows; none for a word of which it has only single letters."""
    found = pieces(word, numbers)
    return () if 1 < len(word) == len(found) else found


def by_letters(word: str, dimensions: int) -> NDArray[np.int8]:
    """A vector from a word and its trigrams: words that are spelled alike get similar vectors."""
    whole = _noise(word, dimensions)
    if len(word) > LONGEST_WORD:
        return whole
    padded = f" {word} "
    parts = [padded[start : start + 3] for start in range(len(word))]
    total = len(parts) * whole.astype(np.int32)
    for part in parts:
        total += _noise(part, dimensions)
    return (total // isqrt(len(parts) ** 2 + len(parts))).astype(np.int8)


def _noise(text: str, dimensions: int) -> NDArray[np.int8]:
    hashed = shake_128(text.encode("utf-8", "surrogatepass")).digest(dimensions)
    return np.frombuffer(hashed, np.int8) >> _NOISE_SHIFT
