"""Estimates of tokens, held against what OpenAI's table cl100k counts (token_counts.json: measured with tiktoken)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.text.chunks import spans
from reindexer.core.text.tokens import estimate_tokens


@dataclass(frozen=True)
class Counted:
    """A text, and how many tokens it is."""

    kind: str
    name: str
    tokens: int
    text: str

    @property
    def ratio(self) -> float:
        """The estimate of a long text of this kind, compared with the count: the one token that all get is left out."""
        return (estimate_tokens(self.text) - 1) / self.tokens


COUNTED = [
    Counted(**each) for each in json.loads(Path(__file__).with_name("token_counts.json").read_text(encoding="utf-8"))
]
BOUNDS = {
    "language": (0.79, 2.05),
    "data": (0.79, 2.7),
    "symbols": (0.8, 2.0),
    "noise": (0.45, 2.0),
    "repetition": (1.0, 50),
}
"""Of kinds of texts, how much too low and too high an estimate may be. Repetitions of one character are no texts, and
of what is drawn at random, or written in capitals with marks, little will ever be indexed."""


@pytest.mark.parametrize("counted", COUNTED, ids=[each.name for each in COUNTED])
def test_an_estimate_holds_against_the_real_table(counted: Counted) -> None:
    lowest, highest = BOUNDS[counted.kind]
    assert lowest <= counted.ratio <= highest


def test_estimates_of_languages_are_rarely_too_low_and_seldom_more_than_half_too_high() -> None:
    languages = [each.ratio for each in COUNTED if each.kind == "language"]
    assert len(languages) > 95
    assert sum(ratio >= 0.9 for ratio in languages) >= 0.9 * len(languages)
    assert sum(ratio <= 1.5 for ratio in languages) >= 0.9 * len(languages)


@pytest.mark.parametrize(
    "name", ["armenian", "georgian", "amharic", "burmese", "tibetan", "sinhala", "one letter a line"]
)
def test_a_long_text_of_any_script_is_cut_into_chunks_that_the_model_takes(name: str) -> None:
    """Each was sent whole, refused, and FAILED for good."""
    counted = next(each for each in COUNTED if each.name == name)
    text = counted.text * (20_000 // counted.tokens)
    a_character = counted.tokens / len(counted.text)
    assert len(text) * a_character > 1.5 * 8192
    chunks = spans(text, 8192)
    assert all((span.end - span.start) * a_character < 8192 for span in chunks)
    assert sum(span.end - span.start for span in chunks) > 0.95 * len(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 1),
        ("a", 1),
        ("The library shows old maps every Saturday.", 13),
        ("def spans(text: str) -> tuple[Span, ...]:\n    return ()\n", 21),
        ("Библиотека показывает старые карты.", 28),
        ("図書館では古い地図を展示しています。", 23),
        ("Գրադարանը ցուցադրում է հին քարտեզներ։", 68),
        ("a\nb\nc\n", 5),
        ("😀", 4),
        ("\ud800", 4),
    ],
)
def test_the_estimate_of_a_text_is_the_same_on_every_machine_and_in_every_version(text: str, tokens: int) -> None:
    """Workers of two versions would cut one text in two ways: whoever changes this has all long texts embedded anew."""
    assert estimate_tokens(text) == tokens


@given(st.text(), st.text())
def test_an_estimate_grows_with_the_text_and_two_parts_are_hardly_less_than_the_whole(one: str, other: str) -> None:
    whole = estimate_tokens(one + other)
    assert max(estimate_tokens(one), estimate_tokens(other)) <= whole + 2
    assert whole <= estimate_tokens(one) + estimate_tokens(other) + 2
    assert 1 <= whole <= len((one + other).encode("utf-8", "surrogatepass")) + 1


@pytest.mark.alone
@pytest.mark.parametrize(
    "sentence", ["The library shows old maps. ", "Библиотека показывает карты. ", "図書館では古い地図。"]
)
def test_two_megabytes_are_estimated_in_some_milliseconds(sentence: str) -> None:
    text = sentence * (2_000_000 // len(sentence.encode()))
    took = []
    for _ in range(5):
        began = time.process_time()
        estimate_tokens(text)
        took.append(time.process_time() - began)
    assert min(took) < 0.15
