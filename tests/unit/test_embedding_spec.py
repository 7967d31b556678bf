"""What is embedded of a chunk, and what its fingerprint says of that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reindexer.core.errors import SourceError
from reindexer.core.profile import Profile
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.text.embedding_spec import SEAM, EmbeddingSpec
from reindexer.core.text.tokens import estimate_tokens

MODEL = "openai:m:3"
PREFIX = "search_document: "
WORDS = st.lists(st.sampled_from(["word ", "Satz. ", "字", "x7", "\n\n", "# T\n", "é", "😀", "-"]), max_size=120).map(
    "".join
)


def spec(most: int = 8192, *, chunk_tokens: int | None = None, **profile: str) -> EmbeddingSpec:
    source = replace(CONTEXT_ITEMS, chunk_tokens=chunk_tokens, profile=Profile(**profile))  # type: ignore[arg-type]
    return EmbeddingSpec.of(source, MODEL, most)


def test_without_a_document_side_fingerprints_are_as_they_were() -> None:
    assert spec().fingerprint("a text") == "042c14b24a993928982239b9d7343215"
    assert spec(query_prefix="find: ", query_input_type="query").fingerprint("a text") == spec().fingerprint("a text")


def test_prefix_and_input_type_of_documents_change_fingerprints_and_not_spans() -> None:
    (plain,) = spec().chunks("a text")
    (prefixed,) = spec(document_prefix=PREFIX).chunks("a text")
    (typed,) = spec(document_input_type="document").chunks("a text")
    assert len({plain.fingerprint, prefixed.fingerprint, typed.fingerprint}) == 3
    assert plain.span == prefixed.span == typed.span
    assert (prefixed.text("a text"), prefixed.input("a text")) == ("a text", f"{PREFIX}a text")


def test_equal_inputs_have_equal_fingerprints_whatever_of_them_is_the_prefix() -> None:
    (written,) = spec().chunks(f"{PREFIX}a text")
    (prefixed,) = spec(document_prefix=PREFIX).chunks("a text")
    assert written.fingerprint == prefixed.fingerprint


@given(WORDS, st.text(min_size=1, max_size=40), st.integers(200, 400))
@example("\n\n😀", "passage: " * 4, 244)
@example("字" * 40, "!" * 40, 244)
@example("x7" * 60, "p" * 40, 300)
def test_a_chunk_and_its_prefix_are_never_more_than_the_model_takes(text: str, prefix: str, most: int) -> None:
    """By the estimate, or because no text has more tokens than bytes, which the estimate of a chunk alone respects."""
    for each in (text, f"{text} words and words" * 30):
        for chunk in spec(most, document_prefix=prefix).chunks(each):
            by_bytes = estimate_tokens(prefix) + SEAM + len(chunk.text(each).encode())
            assert min(estimate_tokens(chunk.input(each)), by_bytes) <= most


def test_a_prefix_moves_no_cut_of_chunks_that_leave_room_for_it() -> None:
    text = "One sentence after the other. " * 200
    plain, prefixed = spec(chunk_tokens=100).chunks(text), spec(chunk_tokens=100, document_prefix=PREFIX).chunks(text)
    assert [each.span for each in plain] == [each.span for each in prefixed]


def test_a_prefix_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(SourceError, match="document_prefix leaves no room for a text"):
        spec(30, document_prefix="many words in front of each of the texts, and then some more")
