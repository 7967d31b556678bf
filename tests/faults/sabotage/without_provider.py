"""Rows about what needs no provider, and is not to wait for one."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

FOLDER = "tests/faults/without_provider/"
BACKLOG = FOLDER + "test_backlog.py::"
CHANGES = FOLDER + "test_changes.py::"
MARKS = FOLDER + "test_marks.py::"
RATE_LIMIT = FOLDER + "test_rate_limit.py::"
CLAIM = "reindexer/postgres/sql/claim.sql"
SETTLE = "reindexer/postgres/sql/settle.sql"
DELIVER = "reindexer/worker/apply.py"
MARKED = MARKS + "test_marked_items_are_not_claimed_again_use_no_attempt_and_a_later_change_of_any_kind_clears_the_mark"

WITHOUT_PROVIDER = (
    Sabotage(
        "without a provider: a claim that is no probe asks none that is left alone",
        "breaker-non-probe-silence",
        'if "provider" in self._claim.left_alone:',
        "if False:",
        CHANGES + "test_deletions_blanks_payloads_and_what_is_unchanged_are_settled_while_the_provider_is_away"
        "_and_many_texts_wait",
    ),
    Sabotage(
        "without a provider: in a claim it is done first",
        "deliver-provider-free-first",
        "self._bring_all_but_texts([step for step in steps if not isinstance(step, Embed)])\nself._bring_texts([step for step in steps if isinstance(step, Embed)])\n",
        "self._bring_texts([step for step in steps if isinstance(step, Embed)])\nself._bring_all_but_texts([step for step in steps if not isinstance(step, Embed)])\n",
        CHANGES + "test_in_one_claim_what_needs_no_provider_is_done_before_it_is_asked",
    ),
    Sabotage(
        "without a provider: a payload is written beside the vector of an older text",
        "payload-beside-old-vector",
        "others = [step for step in self._open(steps) if has_other_payload(step)]",
        "others = [step for step in self._open(steps) if False]",
        CHANGES + "test_a_payload_that_changed_with_its_text_is_written_beside_the_older_vector_and_the_text_follows",
    ),
    Sabotage(
        "without a provider: the ledger knows the payload that was written beside an older text (A, p1; B, p2; A, p1)",
        "settle-payload-fingerprint",
        "AND outcome.payload_fingerprint IS NOT NULL\n",
        "AND false\n",
        CHANGES + "test_a_text_and_payload_that_go_back_while_the_provider_is_away_end_as_they_were",
    ),
    Sabotage(
        "without a provider: a point whose payload is exchanged keeps what it says of its text",
        "payload-exchange-text-facts",
        "Point(p.item_id, p.chunk, None, payload_of(p), p.fingerprint, p.span)",
        "Point(p.item_id, p.chunk, None, payload_of(p), p.fingerprint, None)",
        CHANGES + "test_a_payload_that_changed_with_its_text_is_written_beside_the_older_vector_and_the_text_follows",
    ),
    Sabotage(
        "without a provider: of an item in doubt all points get the payload",
        "doubt-payload-all-points",
        "stored += index.points_of(some)",
        "stored += index.stored([(each, 0) for each in some]).values()",
        CHANGES + "test_a_payload_of_an_item_in_doubt_reaches_all_points_that_its_lost_claim_may_have_made",
    ),
    Sabotage(
        "marks: a claim passes marked items over while their provider is left alone",
        "mark-silent-provider-claim",
        "AND drawn.account <> ALL (gate.silent)\n",
        "",
        MARKS + "test_no_claim_is_in_vain_while_marked_items_wait_beside_others",
    ),
    Sabotage(
        "marks: while its provider is left alone a marked item is claimed as its probe alone",
        "breaker-open-probe-only",
        "NOT (gate.probing OR (head.marked AND head.account = ANY (gate.closed)))",
        "NOT gate.probing",
        MARKED,
    ),
    Sabotage(
        "marks: a change clears it",
        "drain-rewrite-lane",
        "OR due.marked OR",
        "OR",
        MARKED,
    ),
    Sabotage(
        "marks: an item that changed meanwhile gets none",
        "mark-not-if-changed",
        "outcome.marks AND NOT held.changed AND",
        "outcome.marks AND",
        MARKS + "test_a_change_that_comes_while_its_item_is_being_marked_is_looked_at_all_the_same",
    ),
    Sabotage(
        "marks: a look at everything does not wait for marked items",
        "mark-run-backlog",
        "(run.kind <> 'whole_source' OR run.force) AND",
        "",
        BACKLOG + "test_truncate_empties_the_index_while_as_many_texts_wait_as_a_backfill_may_have_due",
    ),
    Sabotage(
        "marks: rows that a changed condition leaves out are looked for at once",
        "mark-changed-condition-rows",
        "if before and before.condition != source.condition:",
        "if False:",
        BACKLOG + "test_rows_that_a_changed_condition_leaves_out_leave_the_index_while_as_many_texts_wait",
    ),
    Sabotage(
        "marks: marked items count as backlog",
        "mark-backlog-count",
        "due.lane = 'bulk' AND marked\n",
        "due.lane = 'bulk' AND false\n",
        BACKLOG + "test_the_backlog_of_a_backfill_stays_short_while_the_provider_is_away",
    ),
    Sabotage(
        "marks: a walk over the source looks at a marked item at once",
        "mark-walk-immediate",
        "THEN least(due.not_before, excluded.not_before) ELSE due.not_before END,\nrun_id",
        "THEN due.not_before ELSE due.not_before END,\nrun_id",
        RATE_LIMIT + "test_truncate_empties_the_index_while_the_provider_says_that_nobody_may_ask_for_an_hour",
    ),
    Sabotage(
        "rate limit: only who is known to need nothing else waits for a turn",
        "rate-limit-reservation-patience",
        "patience_s=PATIENCE_S if claim.marked else 0.0,",
        "patience_s=PATIENCE_S,",
        RATE_LIMIT + "test_who_has_more_to_do_than_to_wait_for_a_turn_waits_for_none",
    ),
    Sabotage(
        "breakers: each account of a provider has its own",
        "breaker-per-account",
        'return _account(settings, source, "")',
        'return ""',
        CHANGES + "test_one_accounts_outage_does_not_stop_the_sources_of_another",
    ),
)
