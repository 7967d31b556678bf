"""Texts packed into requests within the provider's limits."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.text.batching import RequestLimits, RequestSize, pack
from reindexer.core.text.tokens import estimate_tokens


@given(st.lists(st.integers(1, 500)), st.integers(1, 20), st.integers(1, 1000))
def test_every_input_travels_once_in_order_and_within_the_limits(counts: list[int], inputs: int, tokens: int) -> None:
    limits = RequestLimits(max_inputs=inputs, max_tokens=tokens)
    requests = list(pack(counts, limits))
    assert [index for request in requests for index in request] == list(range(len(counts)))
    for request in requests:
        assert len(request) <= inputs
        assert len(request) == 1 or sum(counts[index] for index in request) <= tokens


@given(st.lists(st.integers(1, 500), min_size=1), st.integers(1, 20), st.integers(1, 1000))
def test_no_two_neighbouring_requests_would_have_fitted_in_one(counts: list[int], inputs: int, tokens: int) -> None:
    requests = list(pack(counts, RequestLimits(max_inputs=inputs, max_tokens=tokens)))
    for one, following in pairwise(requests):
        together = sum(counts[index] for index in one) + counts[following[0]]
        assert len(one) == inputs or together > tokens


@given(st.text(min_size=1))
def test_a_token_estimate_is_at_least_one_and_grows_with_bytes(text: str) -> None:
    assert 1 <= estimate_tokens(text) <= len(text.encode("utf-8", "surrogatepass")) + 1


def test_a_request_that_was_given_up_is_followed_by_smaller_ones_down_to_one_text() -> None:
    size = RequestSize(2048)
    for sent, expected in ((256, 32), (256, 32), (32, 4), (4, 1), (1, 1)):
        size.timed_out(sent)
        assert size.inputs == expected


def test_requests_grow_as_fast_as_the_provider_answers_and_no_further_than_the_limit() -> None:
    size = RequestSize(100)
    size.timed_out(100)
    grown = []
    while size.inputs < 100:
        size.answered(size.inputs, 0.01, 20.0)
        grown.append(size.inputs)
    assert grown == [24, 48, 96, 100]


def test_requests_grow_to_what_takes_a_quarter_of_the_time_and_stay_there() -> None:
    size = RequestSize(2048)
    size.timed_out(256)
    for _ in range(10):
        size.answered(size.inputs, 0.1 * size.inputs, 20.0)
    assert size.inputs == 50


def test_a_small_request_lets_large_ones_neither_grow_nor_shrink_and_one_that_took_half_its_time_shrinks_them() -> None:
    size = RequestSize(2048)
    size.timed_out(2048)
    size.answered(1, 0.01, 20.0)
    assert size.inputs == 256
    size.answered(256, 6.0, 20.0)
    assert size.inputs == 256
    size.answered(256, 16.0, 20.0)
    assert size.inputs == 80
