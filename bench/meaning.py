"""The built-in embedders: how many queries find the same meaning in other words, and the speed of `static`."""

from __future__ import annotations

import time
from itertools import islice

from bench.figures import Figures
from bench.meanings import found_by, meaning
from bench.stage import Stage, Unsound
from bench.texts import texts
from reindexer.adapters.embedders.hashing import HashingEmbedder
from reindexer.adapters.embedders.static import MAX_INPUTS, StaticEmbedder, StaticModel
from reindexer.core.text.batching import slices
from reindexer.ports import Embedder

TOKENS = 250


def measure(_: Stage, figures: Figures, *, quick: bool) -> None:
    """Quality over bench/meanings.toml; texts of 250 tokens per second of one core; the time to load."""
    static, hashing = StaticEmbedder(), HashingEmbedder(1536)
    found, by_words = found_by(static), found_by(hashing)
    asked = meaning()
    of = f"{len(asked.queries)} queries, {len(asked.texts)} texts; hashing"
    figures.add("meaning_first", found.first, f"{of}: {by_words.first:.3f}")
    figures.add("meaning_of_ten", found.of_ten, f"{of}: {by_words.of_ten:.3f}")
    figures.add("meaning_mrr", found.mrr, f"{of}: {by_words.mrr:.3f}")
    long = _texts(static, 200 if quick else 1000)
    per_s = sorted(_rate(static, long) for _ in range(3))[1]
    figures.add("static_texts_per_s", per_s, f"hashing: {_rate(hashing, long):,.0f}")
    began = time.perf_counter()
    if StaticModel.load().name != static.model:
        raise Unsound("the model has another name each time")
    figures.add("static_load_ms", 1000 * (time.perf_counter() - began))


def _texts(static: StaticEmbedder, count: int) -> list[str]:
    words = (word for _, content in texts(20 * count) for word in content.split())
    long = [" ".join(islice(words, TOKENS)) for _ in range(count)]
    return [_cut(static, text) for text in long]


def _cut(static: StaticEmbedder, text: str) -> str:
    """The text's first words, about 250 tokens."""
    words = text.split()
    share = TOKENS / max(TOKENS, static.count_tokens(text))
    return " ".join(words[: int(len(words) * share)])


def _rate(embedder: Embedder, long: list[str]) -> float:
    """Texts per second of processor time."""
    began = time.process_time()
    for some in slices(long, MAX_INPUTS):
        embedder.embed(some, timeout_s=60)
    return len(long) / (time.process_time() - began)
