"""How long the listener rests between two drains."""

from __future__ import annotations

from reindexer.listener.leader import MAX_STREAM_REST_S, STREAM_REST_S, rest_after


def test_drains_of_a_heavy_stream_take_a_twentieth_of_the_time() -> None:
    assert rest_after(0.006, streams=True) == 0.12


def test_a_stream_is_drained_no_more_often_than_each_50_ms_and_no_less_than_each_200() -> None:
    assert rest_after(0.001, streams=True) == STREAM_REST_S == 0.05
    assert rest_after(3.0, streams=True) == MAX_STREAM_REST_S == 0.2


def test_a_few_edits_do_not_wait_for_a_drain_that_took_long() -> None:
    assert rest_after(0.002, streams=False) == 0.006
    assert rest_after(3.0, streams=False) == STREAM_REST_S
