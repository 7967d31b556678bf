"""Rows about the sweep, breakers and the broker."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

FLOW = "tests/integration/test_drain_to_settle.py::"

SWEEP = (
    Sabotage(
        "healing: what FAILED for a passing cause is tried again",
        "heal-passing-failure",
        "ledger.outcome = 'FAILED' AND ledger.heal_at <= clock_timestamp()",
        "false",
        FLOW + "test_what_failed_for_a_passing_cause_is_tried_again_after_growing_waits_and_heals",
    ),
    Sabotage(
        "the sweep's timer: the listener heals by itself",
        "timer-sweep-healing",
        "if self._heal_timer.due(now):\n",
        "if False:\n",
        "tests/faults/test_qdrant_away.py::test_qdrant_away_past_all_retries_is_failed_with_the_reason_and_heals_by_itself",
    ),
    Sabotage(
        "a walk looks at the ledger too: rows that are gone without a trace leave the index",
        "walk-ledger-pass",
        'return "ledger" if self.state == "rows" and self.kind != "backfill" else "working"',
        'return "working"',
        FLOW + "test_truncate_empties_the_index",
    ),
    Sabotage(
        "reconcile: what is in flight is no difference",
        "reconcile-in-flight-ignored",
        "if was.moves or now.moves or was.token != now.token:",
        "if False:",
        "tests/integration/test_reconcile.py::test_what_is_in_flight_is_no_difference",
    ),
    Sabotage(
        "reconcile: many deletions have to be allowed",
        "reconcile-deletion-limit",
        "check_deletions(findings, max_deletions)\n",
        "",
        "tests/integration/test_reconcile.py::test_many_orphans_are_not_repaired_unless_their_number_is_allowed",
    ),
)

BROKER = (
    Sabotage(
        "resend: asked whose message never left are sent by the listener",
        "request-resend",
        "self._with_broker(lambda: self.dispatch.resend(connection))\n",
        "",
        "tests/faults/test_broker_faults.py::test_a_request_whose_sender_died_gets_its_own_message_from_the_listener",
    ),
    Sabotage(
        "dispatch on a timer: a flushed queue is filled again",
        "timer-dispatch-refill",
        "if self._dispatch_timer.due(now) or (walked and self._refill_timer.due(now)):",
        "if walked:",
        "tests/integration/test_four_processes.py::test_a_flushed_broker_costs_time_and_no_edit",
    ),
    Sabotage(
        "dispatch is bounded: few messages whatever the backlog",
        "dispatch-message-limit",
        "self.max_messages",
        "10_000",
        "tests/integration/test_celery.py::test_the_broker_holds_a_bounded_number_of_messages_without_ids",
    ),
    Sabotage(
        "messages that are sent without a look at the queue are counted",
        "dispatch-unseen-sends-counted",
        "queue.at_most < self.max_messages",
        "queue.at_most > 0",
        "tests/integration/test_celery.py::test_edits_one_by_one_fill_no_queue_from_which_nobody_takes",
    ),
)

ADDRESSES = (
    Sabotage(
        "addresses: QDRANT_URL without a port means its scheme's",
        "address-scheme-default-port",
        '"port": http_port(self.url)[0]',
        '"port": OWN_PORT',
        "tests/integration/test_qdrant_address.py::test_a_url_without_a_port_finds_qdrant_on_port_80",
        fails_with="QDRANT_URL names no port",
    ),
    Sabotage(
        "addresses: a web server's 404 is no lost collection",
        "address-foreign-404",
        " or (status == 404 and not is_of_qdrant(exc.content)):",
        ":",
        "tests/integration/test_qdrant_address.py::test_what_answers_and_is_not_qdrant_is_told_so_and_no_item_is_blamed",
    ),
    Sabotage(
        "settings: every URL is looked at by every process before it is used",
        "settings-url-validation",
        "settings._require_usable_urls()\n",
        "",
        "tests/integration/test_environment.py::"
        "test_a_process_tells_a_wrong_value_in_one_line_that_names_the_setting[some-listen]",
    ),
    Sabotage(
        "profiles: no collection hides new points",
        "profile-hidden-points-refusal",
        "if hides_points(collection.profile.collection):\n",
        "if False:\n",
        "tests/integration/test_profiles.py::"
        "test_a_stored_profile_that_hides_new_points_from_searches_is_the_sources_problem",
    ),
)
