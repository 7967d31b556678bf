"""What every `Embedder` guarantees. Inherit from the class, and give it the fixture `embedder`:

class TestAcmeEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return registry.embedder("acme", EmbedderConfig())
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reindexer.ports import Embedder

TEXTS = ("one", "two", "日本語 text", "😀", "a" * 10_000, "one")
TIMEOUT_S = 30.0


class EmbedderContract:
    """Tests of one embedder."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The embedder to test."""
        raise NotImplementedError("define the fixture `embedder`")

    def test_one_finite_float32_vector_a_text_in_order(self, embedder: Embedder) -> None:
        vectors = embedder.embed(TEXTS, timeout_s=TIMEOUT_S).vectors
        assert vectors.shape == (len(TEXTS), embedder.dimensions)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        assert vectors.any(axis=1).all()
        assert np.array_equal(vectors[0], vectors[5])
        assert np.array_equal(vectors[2], embedder.embed([TEXTS[2]], timeout_s=TIMEOUT_S).vectors[0])

    def test_another_text_has_another_vector(self, embedder: Embedder) -> None:
        one, other = embedder.embed(["bicycle", "an entirely different text"], timeout_s=TIMEOUT_S).vectors
        assert not np.array_equal(one, other)

    def test_the_fingerprint_names_embedder_and_dimensions_and_stays(self, embedder: Embedder) -> None:
        before = embedder.fingerprint
        assert before.endswith(f":{embedder.dimensions}")
        assert before.partition(":")[0]
        embedder.embed(["text"], timeout_s=TIMEOUT_S)
        assert embedder.fingerprint == before

    def test_its_limits_are_usable(self, embedder: Embedder) -> None:
        limits = embedder.limits
        assert limits.max_inputs >= 1
        assert 16 <= limits.max_input_tokens <= limits.max_tokens
        some = ["text"] * min(limits.max_inputs, 64)
        assert len(embedder.embed(some, timeout_s=TIMEOUT_S).vectors) == len(some)

    def test_tokens_are_counted_or_zero(self, embedder: Embedder) -> None:
        assert embedder.embed(["text"], timeout_s=TIMEOUT_S).tokens >= 0

    def test_threads_share_it(self, embedder: Embedder) -> None:
        texts = [f"text {n}" for n in range(8)]
        alone = [embedder.embed([text], timeout_s=TIMEOUT_S).vectors[0] for text in texts]
        with ThreadPoolExecutor(4) as pool:
            together = pool.map(lambda text: embedder.embed([text], timeout_s=TIMEOUT_S).vectors[0], texts)
        assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(alone, together, strict=True))

    def test_the_texts_given_are_left_as_they_were(self, embedder: Embedder) -> None:
        texts = ["one", "two"]
        embedder.embed(texts, timeout_s=TIMEOUT_S)
        assert texts == ["one", "two"]
