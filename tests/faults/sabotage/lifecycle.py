"""The life of a generation: what a rebuild, a promotion, a rollback and a prune must not lose, mix or hide."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

LIFE = "tests/integration/generations/test_lifecycle.py::"
TAKEN = "tests/integration/generations/test_vectors_taken.py::"
DONOR = "tests/faults/test_donor_faults.py::"

LIFECYCLE = (
    Sabotage(
        "generations: triggers record what any kept one declares",
        "generation-columns-recorded",
        "return tuple(sorted({*self.declared_columns, *self.recorded_by_others}))",
        "return self.declared_columns",
        LIFE + "test_the_triggers_record_what_any_kept_generation_declares",
    ),
    Sabotage(
        "generations: a column that is gone is not compared",
        "generation-missing-column",
        "JOIN pg_attribute ON attrelid = source.table_oid AND attname = declared.name AND attnum > 0 AND NOT attisdropped",
        "CROSS JOIN LATERAL (SELECT declared.name::name AS attname) AS pg_attribute",
        LIFE + "test_a_standby_whose_column_is_dropped_is_broken_and_hides_nothing",
    ),
    Sabotage(
        "generations: one that lacks a column is given up",
        "generation-broken-column",
        "break_(connection, source, number, problem)",
        "pass",
        LIFE + "test_a_standby_whose_column_is_dropped_is_broken_and_hides_nothing",
    ),
    Sabotage(
        "generations: one rebuild at a time",
        "rebuild-one-at-a-time",
        "if state in UNDER_WAY:",
        "if False:",
        LIFE + "test_what_can_not_be_promoted_says_what_to_do",
    ),
    Sabotage(
        "generations: what searches use is never dropped",
        "prune-active-refusal",
        'if state == "active":',
        "if False:",
        LIFE + "test_what_can_not_be_promoted_says_what_to_do",
    ),
    Sabotage(
        "promotion: not while changes are late",
        "promote-lag",
        "coalesce(changed_at, '-infinity') < clock_timestamp() - make_interval(secs => %(lag_s)s)",
        "changed_at < clock_timestamp() - make_interval(days => 1, secs => %(lag_s)s)",
        LIFE + "test_a_generation_that_lags_behind_is_promoted_only_by_request",
    ),
    Sabotage(
        "promotion: what waits for the target moves to the lane of edits",
        "promote-live-lane",
        'moved = connection.execute(load("generations.sql")["hurry"], named).rowcount',
        "moved = 0",
        LIFE + "test_a_generation_that_lags_behind_is_promoted_only_by_request",
    ),
    Sabotage(
        "promotion: not while it lacks what searches find",
        "promote-failed-items",
        "LEFT JOIN reindexer.ledger AS active ON active.source = ours.source AND active.item_id = ours.item_id\n",
        "LEFT JOIN reindexer.ledger AS active ON false\n",
        LIFE + "test_items_that_failed_in_the_next_generation_hold_the_promotion_up",
    ),
    Sabotage(
        "promotion: open requests go over to what searches use",
        "promote-rebound-requests",
        "UPDATE reindexer.request SET generation = %(generation)s, due_version = queued.version",
        "UPDATE reindexer.request SET due_version = queued.version",
        LIFE + "test_a_request_made_before_a_promotion_is_answered_by_the_generation_that_searches_use",
    ),
    Sabotage(
        "promotion: the alias follows",
        "alias-followed",
        "moved = index.follow_alias(collection)",
        "moved = False",
        LIFE + "test_a_promotion_takes_effect_at_once_for_searches_and_the_alias_follows",
    ),
    Sabotage(
        "promotion: a search asks the collection of its generation, wherever the alias is",
        "search-own-collection",
        '"collection_name": collection.name',
        '"collection_name": collection.alias',
        LIFE + "test_a_promotion_takes_effect_at_once_for_searches_and_the_alias_follows",
        fails_with="PermanentError",  # Qdrant refuses the vector, which has other dimensions
    ),
    Sabotage(
        "promotion: a search that meets a dropped generation asks the one that searches use",
        "search-dropped-generation",
        "if hits or (now := resolve()).collection.name == there.collection.name:",
        "if True:",
        "tests/integration/generations/test_outside.py"
        "::test_a_search_that_meets_a_dropped_generation_uses_the_one_that_searches_use",
    ),
    Sabotage(
        "donors: a generation takes the vectors that another one has",
        "donor-vector-reuse",
        "if self.donors:",
        "if False:",
        TAKEN + "test_a_rebuild_that_changes_how_points_are_stored_asks_no_provider[graph]",
    ),
    Sabotage(
        "donors: none that keeps less than was written",
        "donor-kept-vector",
        'return datatype == EXACT and (distance == to_distance or distance != "cosine")',
        'return distance == to_distance or distance != "cosine"',
        TAKEN + "test_a_collection_of_half_precision_feeds_none_that_keeps_more",
    ),
    Sabotage(
        "donors: none whose distance changes a vector",
        "donor-kept-vector",
        'return datatype == EXACT and (distance == to_distance or distance != "cosine")',
        "return datatype == EXACT",
        TAKEN + "test_vectors_that_a_distance_changed_feed_none_of_another_distance",
    ),
    Sabotage(
        "donors: a vector is taken with the fingerprint that was written with it",
        "reused-vector-fingerprint",
        "if found.fingerprint == places[place]:",
        "if True:",
        TAKEN + "test_a_vector_is_taken_only_with_the_fingerprint_that_was_written_with_it",
    ),
    Sabotage(
        "donors: a reindex request is embedded anew",
        "donor-request-anew",
        "if not step.item.forced and (",
        "if (",
        TAKEN + "test_a_reindex_request_is_embedded_anew",
    ),
    Sabotage(
        "donors: what needs no provider is written before it is asked",
        "donor-complete-before-embed",
        "self._write([each.step for each in wanted if not got.missing(each.step)], got)",
        "pass",
        TAKEN + "test_what_another_generation_has_is_written_before_the_provider_is_asked_for_the_rest",
    ),
    Sabotage(
        "donors: one that fails is no error of the claim",
        "donor-failure-not-the-claims",
        "except (TransientError, PermanentError) as exc:",
        "except ZeroDivisionError as exc:",
        DONOR + "test_a_donor_that_fails_is_no_error_of_the_claim[500]",
    ),
    Sabotage(
        "donors: no vector is paid for that can't be written",
        "donor-failure-touch",
        "if self.donors.failed and not self._index_answers(steps):",
        "if False:",
        DONOR + "test_no_vector_is_paid_for_where_a_donor_fails_and_nothing_can_be_written[504]",
    ),
    Sabotage(
        "copies: a restored database adopts the collections of all generations",
        "adopt-every-generation",
        "collections = collections_of(connection, each)",
        "collections = collections_of(connection, each)[-1:]",
        "tests/integration/generations/test_restored.py"
        "::test_a_restored_database_adopts_all_generations_and_each_is_compared_by_itself",
    ),
    Sabotage(
        "compare: each generation is searched with vectors of its own model",
        "compare-own-model",
        "ours, theirs = vectors[one.asked_as], vectors[other.asked_as]",
        "ours = theirs = vectors[one.asked_as]",
        "tests/integration/generations/test_compare.py::test_a_golden_file_tells_recall_and_rank",
    ),
)
