"""Rows about drains: how often, and what is passed over: only what would be as it is."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SQL = "reindexer/postgres/sql/drain.sql"
TESTS = "tests/integration/test_drain.py::"
WRITTEN = TESTS + "test_a_change_of_what_is_due_already_but_otherwise_is_written"

DRAIN = (
    Sabotage(
        "drains of a heavy stream leave the processors to its writers",
        "drain-rest-ratio",
        "max(STREAM_REST_S, REST_RATIO * took_s)",
        "STREAM_REST_S",
        "tests/unit/test_rest_between_drains.py::test_drains_of_a_heavy_stream_take_a_twentieth_of_the_time",
    ),
    Sabotage(
        "the listener rests between two drains of a stream",
        "drain-stream-pause",
        "rest_s = max(self.poll_interval_s, rest_after(now - started, streams=self._streams))",
        "rest_s = self.poll_interval_s",
        "tests/integration/test_rest_between_drains.py::test_a_stream_of_changes_is_drained_no_more_often_than_each_50_ms",
    ),
    Sabotage(
        "a drain writes what a claim holds, its lease over or not: its settle must notice",
        "drain-rewrite-pending-items",
        "WHERE due.lease_until IS NOT NULL OR due.attempts > 0 OR",
        "WHERE",
        TESTS + "test_a_change_of_what_is_claimed_is_noticed_by_a_settle_that_comes_late",
    ),
    Sabotage(
        "a drain begins the tries anew of what was tried in vain",
        "drain-rewrite-pending-items",
        " OR due.attempts > 0",
        "",
        TESTS + "test_a_change_begins_the_tries_anew",
    ),
    Sabotage(
        "a drain writes what waits, whoever touched it meanwhile",
        "drain-rewrite-pending-items",
        " OR due.not_before > statement_timestamp()",
        "",
        f"{WRITTEN}[waits_and_was_queued_by_a_run]",
    ),
    Sabotage(
        "a drain writes what is in the other lane",
        "drain-rewrite-lane",
        "OR due.lane < excluded.lane ",
        "",
        f"{WRITTEN}[is_in_the_bulk_lane]",
    ),
    Sabotage(
        "a drain writes what was due without a change",
        "drain-rewrite-lane",
        "OR due.changed_at IS NULL ",
        "",
        f"{WRITTEN}[is_to_be_looked_at_without_a_change]",
    ),
    Sabotage(
        "a drain passes over what is due already",
        "drain-rewrite-pending-items",
        "WHERE due.lease_until IS NOT NULL OR",
        "WHERE true OR",
        TESTS + "test_a_change_of_what_is_due_already_is_taken_and_leaves_its_row_as_it_is",
    ),
)
