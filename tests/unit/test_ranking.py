"""Figures of ranked results."""

from __future__ import annotations

import pytest

from reindexer.core.ranking import fused, mean, overlap, percentile, recall, reciprocal_rank, stored_bytes


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [("", "", 1.0), ("abc", "abc", 1.0), ("abc", "cba", 1.0), ("abc", "xyz", 0.0), ("ab", "abcd", 0.5), ("a", "", 0.0)],
)
def test_an_overlap_is_the_share_of_results_that_both_have_in_any_order(one: str, other: str, share: float) -> None:
    assert overlap(one, other) == overlap(other, one) == share


def test_an_overlap_looks_at_the_first_results_only() -> None:
    assert overlap("abcdef", "abcxyz", most=3) == 1.0


def test_recall_is_the_share_of_what_was_expected_and_can_be_reached() -> None:
    assert recall("abcd", "bz") == 0.5
    assert recall("abcd", "d", most=3) == 0.0
    assert recall("abcdefghij", "abcdefghijklmno") == 1.0


def test_a_reciprocal_rank_is_that_of_the_first_expected_result() -> None:
    assert reciprocal_rank("abcd", "cd") == pytest.approx(1 / 3)
    assert reciprocal_rank("abcd", "z") == 0.0


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([], 0.5) == mean([]) == 0.0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([5.0], 0.99) == 5.0


def test_bytes_follow_datatype_quantization_and_graph() -> None:
    assert stored_bytes(10, 100, {}) == 10 * (400 + 128)
    assert stored_bytes(10, 100, {"datatype": "float16", "hnsw_config": {"m": 8}}) == 10 * (200 + 64)
    assert stored_bytes(10, 100, {"quantization_config": {"scalar": {"type": "int8"}}}) == 10 * (500 + 128)
    assert stored_bytes(10, 80, {"quantization_config": {"binary": {}}}) == 10 * (330 + 128)
    assert stored_bytes(10, 80, {"quantization_config": {"product": {"compression": "x16"}}}) == 10 * (340 + 128)


def test_rankings_are_fused_by_rank_and_of_equal_ranks_the_earlier_rankings_comes_first() -> None:
    found = fused(["abc", "", "xy"])
    assert "".join(each for each, _ in found) == "axbyc"
    assert [score for _, score in found] == [1 / 61, 1 / 61, 1 / 62, 1 / 62, 1 / 63]
