"""Texts packed into requests within the provider's limits."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.batching import RequestLimits, pack
from reindexer.core.tokens import estimate_tokens


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
