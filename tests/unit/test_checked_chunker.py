"""A package's chunker can do nothing worse than fail the item whose text it cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from reindexer.core.errors import ChunkerFailed
from reindexer.core.text.chunks import Span, spans
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.text.tokens import estimate_tokens
from reindexer.registry.checked_chunker import CheckedChunker

TEXT = "secret words"
OUTSIDE = "gives a span that is outside of the text: {} to {}, in 12 characters"


def giving(*found: Any) -> CheckedChunker:
    return CheckedChunker(lambda *_: found, "the chunker 'x' of the package y")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((Span(0, 13),), OUTSIDE.format(0, 13)),
        ((Span(-3, 5),), OUTSIDE.format(-3, 5)),
        ((Span(0, 6), Span(6, 6)), "gives a span that is empty or blank: 6 to 6, in 12 characters"),
        ((Span(6, 7),), "gives a span that is empty or blank: 6 to 7, in 12 characters"),
        ((Span(5, 2),), "gives a span that is empty or blank: 5 to 2, in 12 characters"),
        (
            (Span(7, 12), Span(0, 6)),
            "gives a span that does not begin after the one before, which begins at 7: 0 to 6, in 12 characters",
        ),
        ((), "gives no span of a text that is not blank"),
        (("secret", "words"), "fails: AttributeError"),
        ((Span(0.0, 6.5),), "fails: TypeError"),  # type: ignore[arg-type]
        (repeat(Span(0, 6)), "gives a span that does not begin after the one before, which begins at 0: 0 to 6, in 12"),
    ],
)
def test_wrong_spans_are_one_line_without_the_text(found: Any, words: str) -> None:
    with pytest.raises(ChunkerFailed) as raised:
        CheckedChunker(lambda *_: found, "the chunker 'x' of the package y")(TEXT, 16, 0)
    assert str(raised.value).startswith(f"the chunker 'x' of the package y {words}")
    assert "secret" not in str(raised.value)


def test_an_error_is_named_by_its_type_and_its_text_is_not_shown() -> None:
    def broken(text: str, max_tokens: int, overlap_tokens: int) -> Sequence[Span]:
        raise ValueError(text)

    def late(text: str, max_tokens: int, overlap_tokens: int) -> Iterator[Span]:
        yield Span(0, 1)
        raise KeyError(text)

    for cut, name in ((broken, "ValueError"), (late, "KeyError")):
        with pytest.raises(ChunkerFailed) as raised:
            CheckedChunker(cut, "the chunker 'x' of the package y")(TEXT, 16, 0)  # type: ignore[arg-type]
        assert str(raised.value) == f"the chunker 'x' of the package y fails: {name}"


def test_what_is_too_long_is_cut_by_the_built_in_one_and_the_rest_is_left() -> None:
    text = "short. " + "a longer sentence of words. " * 40 + "end"
    found = giving(Span(0, 6), Span(7, len(text)))(text, 16, 0)
    assert found[0] == Span(0, 6)
    assert len(found) > 10
    assert all(estimate_tokens(text[each.start : each.end]) <= 16 for each in found)
    assert found[1:] == tuple(Span(7 + each.start, 7 + each.end) for each in spans(text[7:], 16))


def test_gaps_overlaps_and_other_whole_numbers_are_accepted() -> None:
    assert giving(Span(0, 6), Span(3, 12))(TEXT, 16, 0) == (Span(0, 6), Span(3, 12))
    assert giving(Span(np.int64(7), np.int64(12)))(TEXT, 16, 0) == (Span(7, 12),)  # type: ignore[arg-type]


def test_chunks_with_equal_texts_and_places_have_equal_fingerprints_whoever_cuts_them() -> None:
    text = "A paragraph of words.\n\n" * 30
    built_in = EmbeddingSpec("e", 40)
    same = EmbeddingSpec("e", 40, cut=CheckedChunker(spans, "x"))
    assert same.fingerprint(text) == built_in.fingerprint(text)
    assert EmbeddingSpec("e", 40, cut=giving()).chunks("") == ()
