"""The built-in embedder that knows meaning."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.meanings import found_by, meaning, words_of
from reindexer import wiring
from reindexer.adapters.embedders.hashing import HashingEmbedder
from reindexer.adapters.embedders.static import StaticEmbedder, StaticModel
from reindexer.adapters.embedders.static_model import FOLDER, VECTORS, VOCABULARY
from reindexer.cli.demo import QUERY
from reindexer.cli.stdlib_texts import stdlib_texts
from reindexer.core.errors import SourceError
from reindexer.core.profile import Profile
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.settings import Settings

ODD = ["", " ", "\x00\x01", "the", "\ud83d", "😀", "미납 청구서", "x" * 10_000, "--", "日本語"]


def vectors(*texts: str) -> NDArray[np.float32]:
    return StaticEmbedder().embed(texts, timeout_s=1).vectors


def nearest(query: str, *texts: str) -> str:
    asked, *found = vectors(query, *texts)
    return texts[int(np.argmax(np.stack(found) @ asked))]


def test_no_query_shares_a_word_with_the_text_that_means_the_same() -> None:
    asked = meaning()
    assert len(asked.queries) >= 60
    assert len(asked.texts) >= 200
    for query, text in zip(asked.queries, asked.texts, strict=False):
        assert not words_of(query) & words_of(text), (query, text)


def test_of_two_hundred_texts_three_of_four_queries_find_first_the_one_that_means_the_same() -> None:
    found = found_by(StaticEmbedder())
    assert found.first > 0.75, found
    assert found.of_three > 0.9, found
    assert found.of_ten > 0.95, found
    assert found_by(HashingEmbedder(1536)).of_ten < 0.2  # it can't be done by words


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("unpaid bill", "the invoice is overdue"),
        ("physician", "A doctor will see you now."),
        ("my luggage got lost", "The airline could not find our suitcases after landing."),
        ("kitten", "Our young cat plays with a ball of wool."),
    ],
)
def test_a_query_finds_what_it_means_without_a_word_of_it(query: str, text: str) -> None:
    others = ["A cake with cream", "The senate passed a law.", "Rain is expected.", "He plays the piano."]
    assert nearest(query, *others, text) == text


def test_what_the_model_does_not_know_is_found_by_its_letters() -> None:
    assert nearest("кошки", "дом", "кошка спит", "собака") == "кошка спит"
    assert nearest("청구서", "고양이가 소파에서 잔다", "미납 청구서") == "미납 청구서"
    assert nearest("xk7-qqz9", "a note about xk7-qqz8", "a note about xk7-qqz9") == "a note about xk7-qqz9"


@pytest.mark.parametrize("text", ODD)
def test_any_text_has_a_vector_of_length_one(text: str) -> None:
    (vector,) = vectors(text)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_texts_without_a_word_are_not_all_alike() -> None:
    one, other, again = vectors("\x00", "\x01", "\x00")
    assert np.array_equal(one, again)
    assert abs(one @ other) < 0.5


def test_a_text_has_the_same_vector_alone_and_in_any_batch_and_thread() -> None:
    texts = [*ODD, *(each.text for _, each in zip(range(300), stdlib_texts(), strict=False))]
    together = vectors(*texts)
    shared = StaticEmbedder()
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda text: shared.embed([text], timeout_s=1).vectors[0], texts))
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(together[::-1], vectors(*reversed(texts)))


def test_another_process_makes_the_same_vectors() -> None:
    """Whatever its hash seed and its threads: Postgres' rows are embedded by one, queries by another."""
    program = (
        "import json, sys; from reindexer.adapters.embedders.static import StaticEmbedder as E; "
        "e = E(); print(json.dumps([e.fingerprint, e.embed(json.load(sys.stdin), timeout_s=1).vectors.tolist()]))"
    )
    texts = [text for text in ODD if text.isprintable()] + ["the invoice is overdue"]
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": seed, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(texts),
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        fingerprint, made = json.loads(done.stdout)
        assert fingerprint == StaticEmbedder().fingerprint
        assert np.array_equal(np.array(made, np.float32), vectors(*texts))


@pytest.mark.parametrize("file", [VECTORS, VOCABULARY])
def test_other_files_are_another_model(tmp_path: Path, file: str) -> None:
    for name in (VECTORS, VOCABULARY):
        shutil.copy(FOLDER / name, tmp_path)
    assert StaticModel.load(tmp_path).name == StaticEmbedder().model
    data = bytearray((tmp_path / file).read_bytes())
    data[-2] ^= 1
    (tmp_path / file).write_bytes(data)
    other = StaticEmbedder(StaticModel.load(tmp_path))
    assert other.model != StaticEmbedder().model
    assert other.fingerprint == f"static-1:{other.model}:256"


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (
            Profile(provider="static", dimensions=64),
            "profile's dimensions is 64, the built-in embedder `static` has 256",
        ),
        (Profile(provider="static", model="m"), "profile's model is 'm', the built-in embedder `static` has 'all-mini"),
    ],
)
def test_a_profile_that_wants_another_model_of_it_is_refused(profile: Profile, told: str) -> None:
    embedder_of = wiring.embedder_of(Settings())
    with pytest.raises(SourceError, match=re.escape(told)):
        embedder_of(replace(CONTEXT_ITEMS, profile=profile))
    assert embedder_of(replace(CONTEXT_ITEMS, profile=Profile(provider="static", dimensions=256))).dimensions == 256


def test_its_tokens_are_counted_by_its_own_pieces_and_cost_nothing() -> None:
    settings = Settings(embedder="static", price_per_million_tokens=5.0)
    counter = wiring.token_counter_of(settings, CONTEXT_ITEMS)
    assert (counter.name, counter.count("the invoice is overdue.")) == (StaticEmbedder().model, 5)
    assert wiring.token_price(settings, CONTEXT_ITEMS) == 0.0


def test_the_model_is_small_and_every_piece_has_a_vector() -> None:
    model = StaticModel.load()
    assert model.vectors.shape == (len(model.numbers), 256)
    assert sum((FOLDER / name).stat().st_size for name in (VECTORS, VOCABULARY)) < 10_000_000
    assert "Apache License" in (FOLDER / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_demos_query_finds_a_text_without_a_word_of_it() -> None:
    texts = [f"{each.name}\n{each.text}" for each in stdlib_texts()]
    embedder = StaticEmbedder()
    query = embedder.embed([QUERY], timeout_s=1).vectors[0]
    found = max(texts, key=lambda text: float(embedder.embed([text], timeout_s=1).vectors[0] @ query))
    assert not words_of(QUERY) & words_of(found), found
