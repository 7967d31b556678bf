"""Rows about claims: the fence, doubt, what a claim may settle."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

CLAIMS = "tests/faults/test_claims.py::"
FLOW = "tests/integration/test_drain_to_settle.py::"
UNREADABLE = "tests/faults/test_unreadable_sources.py::"
INDEX = "tests/contract/test_index.py::TestQdrantIndex::"

FENCE = (
    Sabotage(
        "the fence: an upsert spares a point of a higher token",
        "fence-upsert",
        "models.FieldCondition(key=_VERSION, range=models.Range(gte=token))",
        "models.FieldCondition(key=_VERSION, range=models.Range(gte=2**62))",
        CLAIMS + "test_a_worker_that_went_on_after_its_lease_does_not_overwrite_a_newer_text",
    ),
    Sabotage(
        "the fence: a delete spares a point of a higher token",
        "fence-delete",
        "models.Filter(must=[*conditions, _lower(token)])",
        "models.Filter(must=conditions)",
        INDEX + "test_a_late_delete_spares_what_is_newer",
    ),
    Sabotage(
        "the fence: a payload update spares a point of a higher token",
        "fence-payload-update",
        "[*_same(collection.source, p), lower, *has_keywords]",
        "[*_same(collection.source, p), *has_keywords]",
        INDEX + "test_a_late_payload_update_is_refused",
    ),
    Sabotage(
        "a refused write is read back and noticed",
        "fence-refusal-read-back",
        "for place in wanted if stored.get(place, 0) != index.token}",
        "for place in wanted if False}",
        CLAIMS + "test_a_write_that_qdrant_refuses_is_noticed_and_done_again",
    ),
    Sabotage(
        "a token is above the ledger's",
        "token-above-ledger",
        "greatest(due.token, ledger.token) AS token",
        "due.token AS token",
        CLAIMS + "test_a_token_is_higher_than_the_ledgers_even_if_the_clock_goes_back",
    ),
    Sabotage(
        "a token is above those of earlier claims that were lost",
        "token-above-ledger",
        "greatest(due.token, ledger.token) AS token",
        "ledger.token AS token",
        CLAIMS + "test_a_token_is_higher_than_every_earlier_one_even_if_the_clock_goes_back",
    ),
    Sabotage(
        "settle: the open asked of an item are looked up by the item",
        "settle-open-request-lookup",
        "AND succeeded IS NULL\n",
        "AND finished_at IS NULL\n",
        "tests/integration/test_drain_to_settle.py::"
        "test_settling_takes_no_longer_because_many_requests_are_open_and_the_planner_thinks_that_none_is",
        alone=True,
    ),
    Sabotage(
        "a token that is met in Qdrant counts",
        "token-seen-in-qdrant",
        "token = greatest(due.token, outcome.seen_token)",
        "token = due.token",
        CLAIMS + "test_a_write_that_qdrant_refuses_is_noticed_and_done_again",
    ),
    Sabotage(
        "a repair's token is above one that only Qdrant knows",
        "token-above-qdrant-repair",
        "nullif(wrong.token, 0)",
        "NULL::bigint",
        "tests/faults/test_restores.py::test_a_repair_is_above_a_token_of_the_future_that_only_qdrant_knows",
    ),
)

DOUBT = (
    Sabotage(
        "doubt: a doubtful item is never skipped",
        "doubt-no-skip",
        "not item.forced and not item.uncertain and item.chunks == len(chunks)",
        "not item.forced and item.chunks == len(chunks)",
        CLAIMS + "test_a_to_b_killed_before_settle_back_to_a_ends_with_a",
    ),
    Sabotage(
        "doubt: a lost claim makes its items doubtful",
        "doubt-lost-claim",
        "doubtful = due.doubtful OR chosen.lost",
        "doubtful = due.doubtful",
        CLAIMS + "test_a_to_b_killed_before_settle_back_to_a_ends_with_a",
    ),
    Sabotage(
        "doubt: a write without a reply makes its items doubtful",
        "doubt-unanswered-write",
        "counts=counts, doubtful=not certain",
        "counts=counts, doubtful=False",
        "tests/faults/test_qdrant_away.py::"
        "test_after_a_lost_reply_a_text_that_goes_back_to_what_it_was_is_written_again",
    ),
    Sabotage(
        "doubt: points of a doubtful item are deleted although none is known",
        "doubt-delete-unknown-points",
        "item.chunks > 0 or item.uncertain or item.doubted_ago_s is not None or item.forced",
        "item.chunks > 0 or item.forced",
        "tests/faults/test_qdrant_away.py::test_after_a_lost_reply_a_row_that_is_deleted_leaves_no_point",
    ),
    Sabotage(
        "taken alone: an item whose claim was lost takes no neighbour along",
        "suspect-no-neighbours",
        "AND CASE WHEN (SELECT alone FROM picked WHERE place = 1) THEN place = 1 ELSE NOT alone END",
        "",
        CLAIMS + "test_a_lost_claim_is_doubtful_and_taken_alone",
    ),
    Sabotage(
        "an item that kills its workers is given up",
        "suspect-item-loss-limit",
        "if policy.died_too_often(item.losses):",
        "if False:",
        CLAIMS + "test_an_item_whose_worker_dies_each_time_ends_failed_and_heals",
    ),
    Sabotage(
        "rechecks: what was deleted under doubt is looked at again",
        "doubt-deletion-recheck",
        "WHERE ledger.recheck_at <= statement_timestamp()",
        "WHERE false",
        "tests/faults/test_rechecks.py::"
        "test_a_point_that_a_late_write_made_again_is_removed_one_lease_an_hour_or_a_day_later",
    ),
    Sabotage(
        "rechecks: a doubt is remembered, also when a certain claim came after it",
        "doubt-remembered",
        "doubted_at = coalesce(excluded.doubted_at, ledger.doubted_at)",
        "doubted_at = excluded.doubted_at",
        "tests/faults/test_rechecks.py::"
        "test_a_point_that_a_late_write_made_again_is_removed_one_lease_an_hour_or_a_day_later"
        "[delete_after_a_certain_claim]",
    ),
    Sabotage(
        "taken alone: until it is settled, and longer if it FAILED",
        "suspect-claim-alone",
        " OR due.losses > 0 OR coalesce(ledger.losses, 0) > 0 AS alone",
        " AS alone",
        CLAIMS + "test_an_item_that_was_lost_stays_alone_while_it_is_retried_and_no_longer_than_that",
    ),
    Sabotage(
        "what killed its workers is tried once each time it heals",
        "suspect-retry-after-heal",
        "greatest(0, ledger.losses - 1)",
        "0",
        CLAIMS + "test_an_item_that_killed_its_workers_is_tried_alone_and_once_when_it_heals",
    ),
    Sabotage(
        "a pool process that dies is no answer to a request",
        "request-pool-process-death",
        ", Request=_ReindexRequest)",
        ")",
        "tests/faults/test_pool_processes.py::"
        "test_a_pool_process_killed_for_want_of_memory_is_replaced_and_nobody_is_told_of_a_failure",
    ),
    Sabotage(
        "what a worker settled and did not tell is told by the next",
        "request-unreported-result",
        "_worker().report_unreported()\n",
        "",
        "tests/faults/test_kills.py::test_a_worker_killed_between_settling_and_telling_is_followed_by_one_that_tells",
    ),
)

CLAIM = (
    Sabotage(
        "settling asks for the claim's token",
        "settle-own-token-only",
        "due.token = %(token)s AND due.lease_until IS NOT NULL",
        "due.lease_until IS NOT NULL AND %(token)s > 0",
        CLAIMS + "test_a_late_claim_settles_nothing",
    ),
    Sabotage(
        "an item that changed meanwhile stays due",
        "settle-changed-item-due",
        "due.version > outcome.version AS changed",
        "false AS changed",
        CLAIMS + "test_a_change_after_the_claim_keeps_the_item_due_when_the_claim_settles",
    ),
    Sabotage(
        "what an item that changed meanwhile was settled with after its lease is doubtful",
        "doubt-settle-after-lease",
        " OR due.lease_until <= clock_timestamp(),",
        ",",
        CLAIMS + "test_a_change_after_a_claim_that_settles_after_its_lease_is_doubtful",
    ),
    Sabotage(
        "the worker's deadline: no timeout goes beyond the lease, nothing begins after it",
        "lease-bounded-timeout",
        "if left_s <= at_least_s:\n    raise LeaseExpired\nreturn min(timeout_s, left_s)",
        "return timeout_s",
        "tests/faults/test_deadlines.py::test_a_timeout_ends_before_the_lease_does_and_none_begins_after_it",
    ),
    Sabotage(
        "a batch that is too slow for its lease is written as far as it got",
        "lease-partial-batch-write",
        "if not requests.vectors:\n    raise\n",
        "raise\n",
        "tests/faults/test_deadlines.py::test_a_batch_that_is_too_slow_for_its_lease_is_written_as_far_as_it_got",
    ),
    Sabotage(
        "a provider's rate limit is a wait, not an attempt",
        "spend-unasked-no-attempt",
        "not (limited or slow or",
        "not (slow or",
        "tests/faults/test_provider_faults.py::test_429_for_longer_than_all_retries_is_waited_out_and_uses_no_attempt",
    ),
    Sabotage(
        "bisecting: one refused input fails alone",
        "bisect-refused-input",
        "except InputRejected as exc:\n    return exc\n",
        "except InputRejected as exc:\n    for step in batch:\n        self._fails(step, exc)\n",
        FLOW + "test_one_rejected_input_among_a_hundred_fails_alone",
    ),
    Sabotage(
        "bisecting: one refused payload fails alone",
        "bisect-refused-payload",
        "if error is exc and len(steps) > 1 and (isinstance(exc, PermanentError) or self._fails_again(exc, steps)):\n",
        "if False:\n",
        "tests/faults/test_qdrant_refuses.py::test_one_payload_that_is_refused_fails_alone[400]",
    ),
    Sabotage(
        "versions: a leader that can't read the schema any more looks whose it is, and ends",
        "version-check-before-drain",
        "self.beat(connection, started)\n",
        "",
        "tests/faults/test_upgrade.py::"
        "test_processes_that_can_no_longer_read_the_schema_notice_that_it_is_another_versions_and_end",
    ),
    Sabotage(
        "an older version claims nothing",
        "version-claim-check",
        "(SELECT version_num FROM reindexer.alembic_version) = %(revision)s",
        "%(revision)s <> ''",
        "tests/faults/test_upgrade.py::test_no_claim_is_made_and_none_is_settled_once_the_schema_is_another_versions",
    ),
    Sabotage(
        "an older version settles nothing",
        "version-settle-check",
        "(SELECT version_num FROM reindexer.alembic_version) = %(revision)s",
        "%(revision)s <> ''",
        "tests/faults/test_upgrade.py::test_no_claim_is_made_and_none_is_settled_once_the_schema_is_another_versions",
    ),
    Sabotage(
        "row_security = off: a policy is an error, not a deletion",
        "row-security-policy-error",
        '"SELECT {reads_as_ours}, pg_is_in_recovery()',
        '"SELECT true OR {reads_as_ours}, pg_is_in_recovery()',
        FLOW + "test_a_hidden_row_is_an_error_whatever_the_connection_is_set_to",
    ),
    Sabotage(
        "row_security = off: also where a pooler takes our settings away",
        "row-security-behind-pooler",
        "connection.execute(IN_TRANSACTION)\n",
        "",
        FLOW + "test_a_hidden_row_is_an_error_whatever_the_connection_is_set_to",
    ),
    Sabotage(
        "a column that is missing when it is read is the source's error, not a deletion",
        "row-missing-column-error",
        "except _RowFails as exc:\n    if not asked:\n",
        "except SourceError:\n    return Found({}, frozenset(), {})\nexcept _RowFails as exc:\n    if not asked:\n",
        UNREADABLE + "test_a_column_that_is_renamed_between_the_claim_and_the_read_deletes_nothing",
    ),
    Sabotage(
        "edits go before each batch of a backfill",
        "edit-lane-first",
        "lanes = LANES[: LANES.index(lane) + 1]",
        "lanes = (lane,)",
        CLAIMS + "test_an_edit_that_is_made_during_a_backfill_goes_before_its_next_batch",
    ),
)
