"""Chunks: where a long text is cut, and how little an edit changes that."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.text.chunks import spans
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.text.tokens import estimate_tokens
from tests.support.long_texts import delete, document, edit, insert, move, paragraph

MOST = 120

TEXTS = st.lists(
    st.sampled_from(["word", "two words", "Satz.", "\n", "\n\n", "# Title\n", " ", "。", "字", "x" * 90, "😀"]),
    max_size=200,
).map("".join)


def chunks(text: str, most: int = MOST, overlap: int = 0) -> list[str]:
    return [text[span.start : span.end] for span in spans(text, most, overlap)]


@given(TEXTS, st.integers(16, 200), st.integers(0, 8))
def test_chunks_fit_are_in_order_hold_every_word_and_are_never_blank(text: str, most: int, overlap: int) -> None:
    found = spans(text, most, overlap)
    assert bool(found) == bool(text.strip()) or estimate_tokens(text) <= most
    for one, following in pairwise(found):
        assert one.start < following.start
        assert one.end <= following.end
    covered = bytearray(len(text))
    for span in found:
        assert estimate_tokens(text[span.start : span.end]) <= most
        covered[span.start : span.end] = b"\1" * (span.end - span.start)
    assert all(there or character.isspace() for there, character in zip(covered, text, strict=True))


@given(TEXTS, st.integers(16, 200))
def test_the_same_text_is_always_cut_in_the_same_way(text: str, most: int) -> None:
    assert spans(text, most) == spans(text, most)


def test_a_text_that_fits_is_one_chunk_as_it_is() -> None:
    assert chunks("# One\n\ntwo. three") == ["# One\n\ntwo. three"]
    assert chunks("") == []


def test_headings_part_before_paragraphs_and_these_before_sentences() -> None:
    chance = random.Random(1)
    sections = [f"# {n}\n\n" + "\n\n".join(document(chance, 2)) for n in range(8)]
    found = chunks("\n\n".join(sections), most=max(map(estimate_tokens, sections)) + 10)
    assert all(chunk.startswith("# ") for chunk in found)
    prose = [paragraph(chance, 40) for _ in range(6)]
    assert chunks("\n\n".join(prose), most=max(map(estimate_tokens, prose)) + 5) == prose
    sentences = chunks(" ".join(prose), most=max(map(estimate_tokens, prose)) + 5)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_chunks_overlap_by_whole_words_within_their_size() -> None:
    text = " ".join(document(random.Random(2), 30))
    found = spans(text, 60, 15)
    assert len(found) > 10
    for one, following in pairwise(found):
        assert one.end - following.start > 0
        assert estimate_tokens(text[following.start : one.end]) <= 16
        assert text[following.start - 1].isspace()


CHANGES: Sequence[Callable[[random.Random, list[str]], None]] = (edit, insert, delete, move)


@pytest.mark.parametrize("most", [200, *(pytest.param(each, marks=pytest.mark.long) for each in (80, 400))])
@pytest.mark.long
def test_a_changed_paragraph_makes_at_most_three_new_chunks_of_a_hundred_in_nearly_all_texts(most: int) -> None:
    more, times = dict.fromkeys(CHANGES, 0), 60
    for seed in range(times):
        chance = random.Random(seed)
        doc = document(chance, most)
        before = set(chunks("\n\n".join(doc), most))
        assert len(before) > 50
        drawn = chance.getstate()
        for change in CHANGES:
            chance.setstate(drawn)
            changed = list(doc)
            change(chance, changed)
            new = [chunk for chunk in chunks("\n\n".join(changed), most) if chunk not in before]
            more[change] += len(new) > 3
            assert len(new) <= 5
    assert all(count <= times / 20 for count in more.values()), more


@pytest.mark.parametrize(
    "text",
    [
        "word " * 40_000,
        "ab cd " * 30_000,
        "x" * 200_000,
        "a" + "\n" * 50_000 + "b",
        "Lorem ipsum. " * 15_000,
        "字" * 70_000,
    ],
    ids=["words", "pairs", "no space", "new lines", "sentences", "ideographs"],
)
def test_a_text_without_structure_is_cut_into_large_chunks_in_little_time(text: str) -> None:
    began = time.monotonic()
    found = chunks(text, 1000)
    assert time.monotonic() - began < 20
    assert len(found) <= 2 + 4.5 * estimate_tokens(text) / 1000


def test_an_item_of_one_chunk_has_that_chunks_fingerprint_and_others_depend_on_places_too() -> None:
    spec = EmbeddingSpec("model:8", 40)
    assert spec.fingerprint("short") == spec.chunks("short")[0].fingerprint
    one, two = "\n\n".join(["first " * 60, "second " * 60]), "\n\n\n".join(["first " * 60, "second " * 60])
    assert [c.fingerprint for c in spec.chunks(one)] == [c.fingerprint for c in spec.chunks(two)]
    assert spec.fingerprint(one) != spec.fingerprint(two)
    assert spec.fingerprint("") is None


def test_another_chunk_size_or_model_is_another_fingerprint_where_it_makes_a_difference() -> None:
    text = "\n\n".join(document(random.Random(3), 10))
    recipes: Sequence[EmbeddingSpec] = [
        EmbeddingSpec("m", 60),
        EmbeddingSpec("m", 120),
        EmbeddingSpec("m", 60, 10),
        EmbeddingSpec("other", 60),
    ]
    assert len({spec.fingerprint(text) for spec in recipes}) == len(recipes)
    assert EmbeddingSpec("m", 4000).fingerprint(text) == EmbeddingSpec("m", 8000).fingerprint(text)
