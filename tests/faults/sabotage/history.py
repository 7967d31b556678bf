"""Rows about the history."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_history.py::"

HISTORY = (
    Sabotage(
        "history: a minute that is missing is a gap",
        "history-gap",
        "row.at - before.at == length",
        "True",
        TESTS + "test_a_missing_minute_is_a_gap_and_no_rate_is_told_over_it",
    ),
    Sabotage(
        "history: a clock that was ahead leaves nothing behind",
        "history-clock-ahead",
        "history.minute > clock.minute",
        "false",
        TESTS + "test_what_a_clock_that_was_ahead_has_written_is_no_past",
    ),
    Sabotage(
        "history: it is kept for a week",
        "history-forgotten",
        "make_interval(days => %(days)s)",
        "make_interval(years => %(days)s)",
        TESTS + "test_what_is_older_than_a_week_is_forgotten_some_at_a_time",
    ),
    Sabotage(
        "history: the leading listener writes it",
        "history-recorded",
        "history.record(connection)",
        "pass",
        TESTS + "test_two_leaders_write_no_minute_twice_and_the_next_one_goes_on",
    ),
    Sabotage(
        "history: no minute is written twice",
        "history-once",
        "WHERE NOT EXISTS (SELECT FROM reindexer.history WHERE source = '' AND history.minute = clock.minute)\nORDER BY told.source\nON CONFLICT (source, minute) DO NOTHING;",
        "ORDER BY told.source\nON CONFLICT (source, minute) DO UPDATE SET counted = excluded.counted;",
        TESTS + "test_a_minute_is_recorded_once_and_told_as_what_came_since_the_one_before",
    ),
    Sabotage(
        "history: however many look, one query is made",
        "history-one-query",
        "if key not in self._queries:",
        "if True:",
        TESTS + "test_pages_that_ask_for_the_same_cost_one_query",
    ),
)
