"""Where looks into a queue begin."""

from __future__ import annotations

from reindexer.queue.watermark import DUTY, FREE_S, Watermark


def test_quick_looks_are_all_whole() -> None:
    watermark = Watermark[int](max_pause_s=5)
    watermark.found(None, 7, ended_s=100, took_s=FREE_S)
    assert watermark.begin(100) is None


def test_after_a_slow_look_the_next_ones_begin_where_something_was_found_until_it_has_paid() -> None:
    watermark = Watermark[int](max_pause_s=5)
    watermark.found(None, 7, ended_s=100, took_s=FREE_S + 0.1)
    assert watermark.begin(100 + DUTY * 0.1 - 0.001) == 7
    watermark.found(7, 9, ended_s=101, took_s=3)
    assert watermark.begin(101.5) == 9, "what a look from the watermark took is not counted"
    assert watermark.begin(100 + DUTY * 0.1) is None


def test_the_pause_has_a_bound() -> None:
    watermark = Watermark[int](max_pause_s=5)
    watermark.found(None, 7, ended_s=100, took_s=60)
    assert (watermark.begin(104.9), watermark.begin(105)) == (7, None)


def test_a_look_that_can_not_tell_leaves_no_floor() -> None:
    watermark = Watermark[int](max_pause_s=5)
    watermark.found(None, None, ended_s=100, took_s=1)
    assert watermark.begin(100) is None
