"""Rows about dependencies that are away: breakers, deadlines of answers, lost collections."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

ITEMS = "tests/faults/provider_away/test_items.py::"
PROBES = "tests/faults/provider_away/test_probes.py::"
FAULTS = "tests/faults/test_provider_faults.py::"
QDRANT = "tests/faults/test_qdrant_away.py::"
CLAIM = "reindexer/postgres/sql/claim.sql"
BREAKER = "reindexer/postgres/sql/breaker.sql"

BREAKERS = (
    Sabotage(
        "breakers: the third failure opens it",
        "breaker-failure-threshold",
        "CASE WHEN breaker.failures + excluded.failures >= %(opens_at)s\n                 THEN coalesce(breaker.opened_at, excluded.failed_at) END",
        "CASE WHEN breaker.failures + excluded.failures >= %(opens_at)s + 1000000 THEN excluded.failed_at END",
        ITEMS + "test_it_opens_at_the_third_failure_and_what_is_not_in_flight_burns_no_attempt_and_says_why",
        fails_with="not enough values to unpack",  # of the breakers that are open
    ),
    Sabotage(
        "breakers: while Qdrant's is open nothing passes that is no probe",
        "breaker-open-probe-only",
        "NOT (gate.probing OR (head.marked",
        "NOT ((head.marked",
        PROBES + "test_while_qdrants_may_be_probed_one_claim_takes_one_item_and_others_nothing",
    ),
    Sabotage(
        "breakers: no message is sent while one is open",
        "breaker-dispatch-closed-only",
        "WHERE gate.passes AND NOT source.paused AND state NOT IN ('broken', 'dropped')\nLIMIT",
        "WHERE NOT source.paused AND state NOT IN ('broken', 'dropped')\nLIMIT",
        PROBES + "test_while_it_is_open_what_needs_it_is_not_claimed_nor_counted_as_ready_and_no_message_is_sent",
    ),
    Sabotage(
        "breakers: no message is sent for what waits for a provider",
        "breaker-dispatch-silent-provider",
        " AND generation.account <> ALL (gate.silent)",
        "",
        PROBES + "test_while_it_is_open_what_needs_it_is_not_claimed_nor_counted_as_ready_and_no_message_is_sent",
    ),
    Sabotage(
        "breakers: one claim gets the probe",
        "breaker-single-probe",
        "(place = 1 AND EXISTS (SELECT FROM probe))",
        "place = 1",
        PROBES + "test_claims_that_wait_for_each_other_in_open_transactions_share_one_probe",
    ),
    Sabotage(
        "breakers: a probe is one item",
        "breaker-single-probe",
        "(place = 1 AND EXISTS (SELECT FROM probe))",
        "EXISTS (SELECT FROM probe)",
        PROBES + "test_exactly_one_of_the_claims_that_come_together_gets_the_probe_of_one_item",
    ),
    Sabotage(
        "breakers: only a probe makes the wait grow",
        "breaker-probe-only-backoff",
        "probed=dependency in claim.probes",
        "probed=True",
        PROBES + "test_the_waits_between_probes_double_up_to_a_limit_and_only_probes_make_them_grow",
    ),
    Sabotage(
        "breakers: a probe that asked nothing leaves the next one free",
        "breaker-unused-probe-release",
        "if dependency not in health.seen:\n",
        "if False:\n",
        PROBES + "test_a_probe_that_had_no_reason_to_ask_the_provider_leaves_the_next_one_free",
    ),
    Sabotage(
        "breakers: an old answer does not close it",
        "breaker-stale-answer-ignored",
        " AND failed_at <= clock_timestamp() - make_interval(secs => %(ago_s)s)",
        " AND %(ago_s)s >= 0",
        PROBES + "test_an_answer_that_is_older_than_the_last_failure_does_not_close_it",
    ),
    Sabotage(
        "breakers: what failed heals as soon as the dependency answers",
        "breaker-heal-on-close",
        "EXISTS (SELECT FROM closed WHERE opened_at IS NOT NULL)",
        "false",
        ITEMS + "test_a_success_closes_it_and_what_failed_for_a_passing_cause_heals_at_once",
    ),
    Sabotage(
        "breakers: where nothing is due, what failed is the probe",
        "breaker-failed-item-probe",
        ' or len(connection.execute(queries["heal_to_probe"]).fetchall())',
        "",
        ITEMS
        + "test_an_item_alone_ends_failed_after_its_tries_and_heals_soon_after_the_return_although_nothing_else_is_due",
    ),
    Sabotage(
        "breakers: an answer is one whatever it says",
        "breaker-error-is-answer",
        "except ReindexerError:\n    self.seen[dependency] = (time.monotonic(), None)\n",
        "except ReindexerError as exc:\n    self.seen[dependency] = (time.monotonic(), DependencyUnavailable(str(exc)))\n",
        FAULTS + "test_500_is_four_tries_and_no_breaker_for_it_answers",
    ),
    Sabotage(
        "breakers: quota that is used up stops all requests",
        "breaker-quota-exhausted",
        "return OutOfQuota(",
        "return TransientError(",
        FAULTS + "test_insufficient_quota_stops_all_requests_at_once_and_all_goes_on_when_it_is_paid",
    ),
    Sabotage(
        "breakers: a claim asks no more of a provider that did not answer",
        "breaker-claim-stops-asking",
        "self._ended_by = exc\n",
        "pass\n",
        ITEMS + "test_each_claim_asks_again_only_what_did_not_answer",
    ),
    Sabotage(
        "breakers: after Qdrant failed it is asked before the provider",
        "claim-qdrant-recheck",
        'anew = "qdrant" in claim.failing or bool(claim.problem)',
        "anew = False",
        QDRANT + "test_qdrant_that_goes_away_while_it_is_written_to_opens_the_breaker_and_no_vector_is_made_in_vain",
    ),
    Sabotage(
        "deadlines: an answer that drips is cut",
        "deadline-dripping-answer",
        'event_hooks={"response": [deadline.on_response]}',
        "event_hooks={}",
        FAULTS + "test_a_provider_that_hangs_or_drips_is_given_up_in_time_and_well_before_the_lease_is_over",
    ),
    Sabotage(
        "deadlines: an answer that has less time than those before it is cut in its own",
        "deadline-earliest-wakeup",
        "elif answer.until < self._wakes_at:",
        "elif False:",
        "tests/contract/test_embedders.py::test_of_answers_that_drip_together_each_is_cut_at_its_own_timeout",
    ),
    Sabotage(
        "deadlines: an answer that is through is left alone",
        "deadline-finished-answer-spared",
        "self._answers.discard(answer)\n",
        "pass\n",
        "tests/contract/test_embedders.py::"
        "test_an_answer_that_is_through_in_time_is_left_alone_and_the_next_is_cut_all_the_same",
    ),
    Sabotage(
        "deadlines: a fork has a watchdog of its own",
        "fork-own-value",
        "if held is not None and held[0] == os.getpid():",
        "if held is not None:",
        "tests/contract/test_embedders.py::test_a_process_that_was_forked_cuts_answers_as_well",
    ),
    Sabotage(
        "forks: a lock that a thread of the parent held does not stay locked",
        "fork-own-lock",
        'if hasattr(os, "register_at_fork"):',
        "if False:",
        "tests/unit/test_per_process.py::test_a_process_forked_while_a_value_is_made_makes_its_own",
    ),
    Sabotage(
        "memory: an answer from Qdrant does not wait for the garbage collector",
        "deadline-response-cycle-break",
        "self._response.stream = None\n",
        "",
        "tests/contract/test_index.py::test_an_answer_does_not_wait_for_the_garbage_collector",
    ),
    Sabotage(
        "lost collections: everything is written again",
        "lost-collection-rebuild",
        "if rebuild_if_lost(connection, collection.source, collection.generation, collection_id):",
        "if False:",
        QDRANT + "test_a_collection_that_is_lost_is_made_again_by_the_next_write_and_everything_is_written_to_it",
    ),
    Sabotage(
        "lost collections: one that was made again has another id, whoever made it",
        "lost-collection-unique-id",
        "{_COLLECTION_ID: str(uuid.uuid4())}",
        '{_COLLECTION_ID: "made" if uuid else ""}',
        QDRANT + "test_a_lost_collection_whose_making_got_no_reply_is_filled_again",
    ),
    Sabotage(
        "lost collections: what was written again since is passed over",
        "lost-collection-rewritten-skip",
        "AND NOT (run.kind = 'whole_source' AND run.force AND EXISTS (",
        "AND NOT (false AND EXISTS (",
        QDRANT + "test_what_was_written_again_already_is_not_embedded_once_more_by_the_run_that_rebuilds",
    ),
)
