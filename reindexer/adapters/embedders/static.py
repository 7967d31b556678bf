"""The built-in embedder that knows meaning: each piece of a word has a vector, a text has the sum of them.

The vectors were distilled from a sentence model (`static_model/README.md`). No key, no download, nothing leaves the
machine. It knows English. Of words that it does not know, in other scripts for example, it compares the letters, as
`hashing` does. It does not see the order of words.

All is added in whole numbers: a text has the same vector in every batch, in every process and on every machine.
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
from reindexer.core.text.batching import RequestLimits
from reindexer.ports import Embedding, Vector

METHOD = "static-1"
"""How pieces become a vector; another way needs another name."""
NAME = "all-minilm-l6-v2"
MAX_TOKENS = 512
"""Of one text: what is said in a longer one can't be told from the sum of its words."""
MAX_INPUTS = 256
"""Of one call, which then takes a tenth of a second or so."""

_WORDS = 50_000
_STRANGE_WORDS = 10_000
"""Of which pieces and vectors are remembered: 5 MB and 3 MB at most."""
_NOISE_SHIFT = 2
"""A word that is not known gets a vector about as long as a rare word's that is."""


@dataclass(frozen=True, slots=True)
class StaticModel:
    """A vocabulary, and a vector of whole numbers for each of its pieces."""

    vectors: NDArray[np.int8]
    numbers: Mapping[str, int]
    name: str
    """Ends with a hash of both files: other files are another model."""

    @classmethod
    def load(cls, folder: Path = FOLDER) -> StaticModel:
        """Read the files. The vectors stay in the file, which all processes share in memory."""
        vocabulary = (folder / VOCABULARY).read_bytes()
        hashed = blake2b(vocabulary, digest_size=4)
        hashed.update((folder / VECTORS).read_bytes())  # guard embedder-model-file-hash
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        numbers = {piece: number for number, piece in enumerate(vocabulary.decode("utf-8").rstrip("\n").split("\n"))}
        return cls(vectors, numbers, f"{NAME}-{hashed.hexdigest()}")


_lock = threading.Lock()
_loaded: list[StaticModel] = []


def built_in_model() -> StaticModel:
    """The package's own, read once by a process."""
    with _lock:
        if not _loaded:
            _loaded.append(StaticModel.load())
        return _loaded[0]


class StaticEmbedder:
    """`Embedder` without a provider: deterministic, unit length, never fails."""

    def __init__(self, model: StaticModel | None = None) -> None:
        self._model = model or built_in_model()
        self._pieces = lru_cache(_WORDS)(partial(pieces_of, numbers=self._model.numbers))
        self._letters = lru_cache(_STRANGE_WORDS)(partial(by_letters, dimensions=self.dimensions))

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
        """It takes any text; a long one is cut, so that its parts are found."""
        return RequestLimits(MAX_INPUTS, MAX_INPUTS * MAX_TOKENS, MAX_TOKENS)

    def count_tokens(self, text: str) -> int:
        """The pieces of a text; a word that is not known counts as one."""
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
        if not total.any():  # no words, or none that means anything: "the"
            total = _noise(" ".join(words(text)) or text, self.dimensions).astype(np.int32)
        exact = total.astype(np.float64)
        vector: Vector = (exact / np.sqrt((exact * exact).sum())).astype(np.float32)
        return vector

    def _pieces_of_known(self, word: str) -> tuple[int, ...]:
        return self._pieces(word) if len(word) <= LONGEST_WORD else ()


def pieces_of(word: str, numbers: Mapping[str, int]) -> tuple[int, ...]:
    """The pieces of a word that the model knows. It does not know one of which it has single letters only."""
    found = pieces(word, numbers)
    return () if 1 < len(word) == len(found) else found


def by_letters(word: str, dimensions: int) -> NDArray[np.int8]:
    """A vector of a word, and of each three letters of it: alike for words that are written alike."""
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
