"""Rows about marks: what a writer can wait for."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_marks.py::"

WAITS = "tests/integration/test_waits.py::"

RELATED = "tests/integration/test_related_tables.py::"

PROMOTED = (
    "tests/integration/generations/test_lifecycle.py::test_a_mark_that_was_told_to_be_indexed_stays_so_over_a_promotion"
)

MARKS = (
    Sabotage(
        "mark: a change carries the id of its top transaction",
        "mark-top-transaction",
        " DEFAULT pg_current_xact_id()",
        "",
        TESTS + "test_rows_under_savepoints_and_exception_blocks_count_for_the_top_transaction",
    ),
    Sabotage(
        "mark: a commit counts once a statement sees what it left",
        "mark-seen-by-statement",
        "WHEN NOT pg_visible_in_snapshot(asked.xact, pg_current_snapshot()) THEN 'open'",
        "",
        TESTS + "test_a_mark_that_a_snapshot_does_not_see_is_open",
    ),
    Sabotage(
        "mark: a change in the outbox is waited for",
        "mark-outbox",
        "SELECT undrained.whose FROM undrained",
        "SELECT undrained.whose FROM undrained WHERE false",
        TESTS + "test_a_mark_is_indexed_once_each_of_its_rows_is",
    ),
    Sabotage(
        "mark: an item that the drain passes over is kept",
        "mark-passed-over",
        "EXISTS (SELECT FROM reindexer.marker)",
        "EXISTS (SELECT FROM reindexer.marker)"
        " AND NOT EXISTS (SELECT FROM reindexer.due WHERE (source, item_id) = (taken.source, taken.item_id))",
        TESTS + "test_an_item_that_is_due_already_is_waited_for",
    ),
    Sabotage(
        "mark: a settle of what was read before releases nothing",
        "mark-own-version",
        "AND ledger.claimed > $3",
        "",
        TESTS + "test_a_claim_that_read_the_row_before_does_not_release_it",
    ),
    Sabotage(
        "mark: whoever waits for a run waits for what it left due",
        "mark-run-handed-over",
        "marks.hand_over_runs(connection)",
        "connection.execute(\"DELETE FROM reindexer.note WHERE run IN (SELECT id FROM reindexer.run WHERE state = 'working')\")",
        TESTS + "test_truncate_is_waited_for_until_the_last_row_has_left",
    ),
    Sabotage(
        "mark: what is claimed while a run is handed over is settled once more",
        "mark-run-claimed",
        "UPDATE reindexer.due SET version = version + 1 FROM waiting",
        "UPDATE reindexer.due SET version = version FROM waiting",
        TESTS + "test_what_is_claimed_when_the_last_page_is_queued_is_settled_once_more",
    ),
    Sabotage(
        "mark: whoever waits for a related value waits for its items",
        "mark-fan-out-followed",
        "marks.follow(connection, source.name, related, [each.value for each in values])",
        "return",
        RELATED + "test_a_mark_waits_for_every_page_of_a_related_value",
    ),
    Sabotage(
        "mark: it waits for a generation that is being promoted",
        "mark-promoted-next",
        " OR live_until > statement_timestamp();",
        ";",
        PROMOTED,
    ),
    Sabotage(
        "mark: a promotion waits for what was told to be indexed",
        "promote-after-marks",
        "OR least(changed_at, later_changed_at) < %(hurried_at)s::timestamptz",
        "OR %(hurried_at)s::timestamptz IS NULL",
        PROMOTED,
    ),
    Sabotage(
        "mark: it is not forgotten while a change of it may be in the outbox",
        "mark-forget-undrained",
        "WHERE changed_at < clock_timestamp() - make_interval(secs => %(keep_s)s))",
        "WHERE changed_at < clock_timestamp() - make_interval(secs => %(keep_s)s) AND false)",
        TESTS + "test_a_session_that_marked_is_forgotten_only_when_nothing_is_left_of_it",
    ),
    Sabotage(
        "mark: it is not forgotten while an item of it is left",
        "mark-forget-left",
        "EXISTS (SELECT FROM reindexer.waiting_of(source, item_ids, moment) OFFSET 0) AS waits",
        "false AS waits",
        TESTS + "test_a_session_that_marked_is_forgotten_only_when_nothing_is_left_of_it",
    ),
    Sabotage(
        "mark: a later failure is not told of what was indexed before",
        "mark-later-failure",
        "AND (ledger.claimed > $3) IS NOT TRUE",
        "",
        TESTS + "test_a_failure_of_a_later_edit_is_not_that_of_a_mark_that_was_indexed",
    ),
    Sabotage(
        "mark: it is not forgotten while its session lives",
        "mark-session-lives",
        "AND pid NOT IN (SELECT pg_stat_activity.pid FROM pg_stat_activity WHERE pg_stat_activity.pid IS NOT NULL)",
        "",
        TESTS + "test_a_session_that_lives_is_not_forgotten",
    ),
    Sabotage(
        "mark: what its session marks with is committed before it is kept",
        "mark-session-committed",
        "set_config('reindexer.marker', own, true)",
        "set_config('reindexer.marker', own, false)",
        TESTS + "test_a_session_keeps_what_it_marks_with_once_that_is_committed",
    ),
    Sabotage(
        "mark: of what is forgotten nothing is told",
        "mark-forgotten-told",
        "OR asked.xact <= marker.forgotten",
        "",
        TESTS + "test_after_a_week_it_is_not_known_what_became_of_a_transaction",
    ),
    Sabotage(
        "mark: whoever settles what it waits for notifies",
        "mark-waiters-told",
        "SELECT pg_notify(%(channel)s, '')::text AS nothing",
        "SELECT 'nobody' || %(channel)s AS nothing",
        WAITS + "test_a_wait_ends_with_the_settle",
    ),
    Sabotage(
        "mark: behind a pooler waits look by themselves",
        "mark-waiters-deaf",
        "DEAF_S if connection.is_pooled else TIMER_S",
        "TIMER_S",
        WAITS + "test_behind_a_pooler_a_wait_looks_by_itself",
    ),
    Sabotage(
        "wait: a key with a filter is told no ids of a transaction",
        "wait-key-narrowed",
        "self.access.filter or",
        "",
        WAITS + "test_a_key_is_told_no_more_than_it_may_know",
    ),
    Sabotage(
        "wait: a key that only searches is told no address",
        "wait-no-address",
        'self.access.role == "search" and not left.failed',
        "False",
        WAITS + "test_a_key_is_told_no_more_than_it_may_know",
    ),
    Sabotage(
        "wait: a key with a filter does not ask for ids",
        "wait-filtered-ids",
        "if access.filter:",
        "if access.filter is None:",
        WAITS + "test_a_key_is_told_no_more_than_it_may_know",
    ),
    Sabotage(
        "wait: an open search tells nothing of ids",
        "open-wait-ids",
        "require_key(access)",
        "pass",
        WAITS + "test_an_open_search_waits_for_marks_alone_without_the_key",
    ),
)
