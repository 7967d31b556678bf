"""Waits between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.retry import RetryPolicy

POLICY = RetryPolicy(max_retries=3, base_s=1.0, max_s=60.0)


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_waits_grow_are_jittered_by_half_and_bounded(attempt: int, chance: float) -> None:
    wait = POLICY.wait_s(attempt, chance)
    full = min(60.0, 2.0 ** (attempt - 1))
    assert full / 2 <= wait <= full


def test_retry_after_is_honoured_and_bounded() -> None:
    assert POLICY.wait_s(1, 0.5, retry_after_s=30) == 30
    assert POLICY.wait_s(1, 0.5, retry_after_s=10**9) == 3600
    assert POLICY.wait_s(1, 0.5, retry_after_s=0) == 0.75


def test_three_retries_are_four_attempts() -> None:
    assert [POLICY.exhausted(attempts) for attempts in (1, 2, 3, 4)] == [False, False, False, True]


def test_healing_waits_grow_to_fifteen_minutes_and_stay() -> None:
    assert [POLICY.healing_wait_s(n) / 60 for n in range(7)] == [1, 2, 4, 8, 15, 15, 15]


def test_an_item_is_looked_at_again_one_lease_an_hour_and_a_day_after_its_last_doubt() -> None:
    ago_s, looks = 0.0, []
    while (wait_s := POLICY.recheck_wait_s(ago_s, lease_s=60)) is not None:
        ago_s += wait_s
        looks.append(ago_s)
    assert looks == [60, 3600, 86_400]
    assert POLICY.recheck_wait_s(None, lease_s=60) is None


def test_an_item_that_killed_its_worker_as_often_as_it_may_be_tried_is_given_up() -> None:
    assert [POLICY.died_too_often(losses) for losses in (0, 3, 4)] == [False, False, True]
