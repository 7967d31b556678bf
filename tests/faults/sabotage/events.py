"""Rows about events."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_events.py::"
FAULTS = "tests/faults/test_event_faults.py::"

EVENTS = (
    Sabotage(
        "events: whatever settles an item tells of it by the same commit",
        "event-with-outcome",
        "WHERE outcome.event = ANY (heard.types)",
        "WHERE false",
        TESTS + "test_what_is_told_is_an_items_last_outcome_and_nothing_where_nothing_changed",
    ),
    Sabotage(
        "events: a failure for the same reason is told once",
        "event-failed-again",
        "AND (outcome.outcome <> 'FAILED' OR NOT EXISTS (",
        "AND (true OR NOT EXISTS (",
        TESTS + "test_what_is_told_is_an_items_last_outcome_and_nothing_where_nothing_changed",
    ),
    Sabotage(
        "events: of the generation that searches use",
        "event-active-generation",
        "AND source.generation = %(generation)s",
        "",
        TESTS + "test_only_the_generation_that_searches_use_is_told_of",
    ),
    Sabotage(
        "events: a later event has a number of its own",
        "event-new-number",
        "number = excluded.number,",
        "",
        TESTS + "test_while_an_event_is_in_flight_a_later_one_of_the_item_waits_and_is_not_lost",
    ),
    Sabotage(
        "events: what was sent is acknowledged, not what came since",
        "event-acknowledged-as-sent",
        "number = ANY (%(numbers)s::bigint[])",
        "number >= ANY (%(numbers)s::bigint[])",
        TESTS + "test_while_an_event_is_in_flight_a_later_one_of_the_item_waits_and_is_not_lost",
    ),
    Sabotage(
        "events: none of an item before the one before is through",
        "event-one-at-a-time",
        "sorted(self._busy)",
        "[]",
        TESTS + "test_while_an_event_is_in_flight_a_later_one_of_the_item_waits_and_is_not_lost",
    ),
    Sabotage(
        "events: one sender at a time sends to a receiver",
        "event-one-sender",
        "AND (leased_by = %(sender)s OR coalesce(leased_until <= clock_timestamp(), true))",
        "",
        TESTS + "test_of_two_senders_one_sends_until_its_lease_is_over",
    ),
    Sabotage(
        "events: nobody is told what a crash takes back",
        "event-on-disk",
        "'on', true",
        "'off', true",
        FAULTS + "test_what_is_sent_is_on_disk_whatever_the_session_is_set_to",
    ),
    Sabotage(
        "events: a copy sends nothing",
        "event-copy-silent",
        "AND EXISTS (SELECT FROM reindexer.spender WHERE identity = %(identity)s)",
        "",
        TESTS + "test_nobody_takes_events_of_a_copy",
    ),
    Sabotage(
        "events: a copy is told as a problem",
        "event-copy-told",
        "if holder != self._identity:",
        "if False:",
        TESTS + "test_a_copy_sends_nothing_until_it_is_adopted",
    ),
    Sabotage(
        "events: the database that adds the first receiver is no copy",
        "event-first-database",
        "budgets.hold_spender(connection, identity)",
        "pass",
        TESTS + "test_whoever_adds_a_receiver_writes_down_which_database_this_is",
    ),
    Sabotage(
        "events: what is too much becomes a resync",
        "event-resync",
        'row = connection.execute(queries["resync"], named).fetchone()',
        "row = (2**62,)",
        TESTS + "test_more_than_may_wait_becomes_a_resync_and_what_comes_later_follows_it",
    ),
    Sabotage(
        "events: the resync comes before what is later",
        "event-resync-first",
        "AND (subject = 'all' OR NOT EXISTS (",
        "AND (true OR NOT EXISTS (",
        TESTS + "test_while_a_resync_waits_nothing_else_is_sent",
    ),
    Sabotage(
        "events: one event that is not taken holds no other up",
        "event-others-pass",
        "wait_s = 0.0 if is_one else",
        "wait_s = 60.0 if is_one else",
        TESTS + "test_an_event_that_alone_is_not_taken_holds_no_later_one_up",
    ),
    Sabotage(
        "events: what is back is sent what waited for that",
        "event-back-at-once",
        "AND was.was_away",
        "AND false",
        TESTS + "test_a_receiver_that_is_back_is_sent_at_once_what_it_did_not_take",
    ),
    Sabotage(
        "events: an answer that does not come is cut",
        "event-late-answer",
        "self._webhooks.cut_late()",
        "pass",
        TESTS + "test_an_answer_whose_body_never_ends_is_one_and_holds_nothing_up",
    ),
    Sabotage(
        "events: a kept connection that was closed is no failure",
        "event-kept-connection",
        "if is_new:",
        "if True:",
        TESTS + "test_a_kept_connection_that_was_closed_is_made_again_at_once",
    ),
    Sabotage(
        "events: a promotion tells what it changes",
        "event-promoted",
        "outbox.tell_promoted(connection, source, number, former)",
        "pass",
        TESTS + "test_a_promotion_tells_of_the_items_whose_outcome_is_another_and_of_no_other",
    ),
    Sabotage(
        "events: an edit that only the next generation has got is told when searches use it",
        "event-promoted-edit",
        "OR EXISTS (",
        "OR false AND EXISTS (",
        TESTS + "test_an_edit_that_only_the_next_generation_has_got_is_told_when_searches_use_it",
    ),
    Sabotage(
        "events: whoever was told of an item is told that it is forgotten",
        "forget-told",
        "'item.deleted' = ANY (receiver.types)",
        "false",
        TESTS + "test_whoever_was_told_of_an_item_is_told_that_it_is_forgotten_and_then_nothing_names_it",
    ),
)
