"""What a promotion must not lose or bring back, and what is left of a generation that is dropped."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

PROMOTION = "tests/faults/generations/test_promotion.py::"
DROPPED = "tests/faults/generations/test_dropped.py::"
REBUILD = "tests/faults/generations/test_rebuild.py::"
LIFE = "tests/integration/generations/test_lifecycle.py::"
ROLES = (
    "tests/integration/test_generation_locks.py::"
    "test_roles_of_the_version_before_may_move_a_generation_through_its_life"
)

PROMOTIONS = (
    Sabotage(
        "promotion: a second look within its transaction",
        "promote-second-look",
        "found = _require(connection, source, number, terms, hurried_at)",
        "found = lacking(connection, source, number)",
        LIFE + "test_a_generation_that_lags_behind_is_promoted_only_by_request",
    ),
    Sabotage(
        "promotion: not while a deletion that searches show is missing",
        "promote-shown-deletions",
        "OR EXISTS (\n",
        "OR false AND EXISTS (\n",
        PROMOTION + "test_a_row_whose_deletion_searches_show_already_is_never_found_again",
    ),
    Sabotage(
        "promotion: no deletion is settled between its look and its commit",
        "promote-holds-deletions",
        "promoting(connection, source)",
        "pass",
        PROMOTION + "test_no_deletion_is_settled_between_a_promotions_look_and_its_commit",
    ),
    Sabotage(
        "settling: a deletion waits for a promotion that commits",
        "settle-deletion-waits",
        "WHERE %(deletes)s",
        "WHERE %(deletes)s AND false",
        PROMOTION + "test_no_deletion_is_settled_between_a_promotions_look_and_its_commit",
    ),
    Sabotage(
        "promotion: not while a deletion failed",
        "promote-failed-deletions",
        "OR (active.outcome = 'DELETED' AND ours.chunks > 0))",
        ")",
        PROMOTION + "test_a_deletion_that_failed_in_the_next_generation_holds_the_promotion_up",
    ),
    Sabotage(
        "promotion: an open backfill goes over",
        "promote-rebound-runs",
        "SET generation = %(generation)s,",
        "SET generation = %(former)s,",
        PROMOTION + "test_a_backfill_that_is_open_goes_over_to_the_generation_that_searches_use",
    ),
    Sabotage(
        "promotion: a backfill that starts meanwhile is of the generation that searches use",
        "backfill-of-active",
        "SET generation = source.generation",
        "SET generation = run.generation",
        PROMOTION + "test_what_is_asked_while_a_promotion_commits_is_of_the_generation_that_searches_use",
    ),
    Sabotage(
        "promotion: a request that is recorded meanwhile is of the generation that searches use",
        "request-unpromoted",
        "unpromoted(connection, source)",
        "pass",
        PROMOTION + "test_what_is_asked_while_a_promotion_commits_is_of_the_generation_that_searches_use",
    ),
    Sabotage(
        "promotion: the alias is exchanged in one step",
        "alias-one-step",
        "client.update_collection_aliases([*([] if target is None else [delete]), _creating(collection)])",
        "client.update_collection_aliases([delete])\nclient.update_collection_aliases([_creating(collection)])",
        PROMOTION + "test_the_alias_names_a_collection_at_any_moment",
    ),
    Sabotage(
        "standby: one that searches use again is not dropped",
        "standby-still-over",
        'if (source, number) in connection.execute(queries["expired"]).fetchall():',
        "if True:",
        PROMOTION + "test_a_standby_that_somebody_goes_back_to_as_its_time_ends_is_not_dropped",
    ),
    Sabotage(
        "rebuild: waits for transactions that ran the former functions",
        "rebuild-awaits-writers",
        "triggers.wait_for_writers(connection, active, give_up_after_s=give_up_after_s)",
        "pass",
        REBUILD + "test_what_a_transaction_wrote_that_had_begun_before_a_rebuild_is_in_the_next_generation",
    ),
    Sabotage(
        "rebuild: one that has to wait holds up no other",
        "fill-start-others",
        "except (SourceError, UsageError) as exc:\n",
        "except UsageError as exc:\n",
        REBUILD + "test_a_fill_that_waits_for_a_transaction_holds_up_no_other",
    ),
    Sabotage(
        "rebuild: the watch waits for none",
        "fill-start-no-wait",
        "with changing_triggers_if_free(connection) as is_free:",
        "with changing_triggers(connection):\n    is_free = True",
        REBUILD + "test_the_watch_waits_for_no_rebuild_that_waits_for_writers",
    ),
    Sabotage(
        "rebuild: the provider is asked first",
        "rebuild-embedder-asked",
        "require_usable(embedder, name, settings.embedding_timeout_s)",
        "pass",
        REBUILD + "test_a_rebuild_by_a_model_that_the_provider_does_not_have_changes_nothing",
    ),
    Sabotage(
        "rebuild: never into a collection that is there",
        "rebuild-free-number",
        "while not is_free(number):",
        "while False:",
        REBUILD + "test_a_rebuild_never_fills_the_collection_of_an_earlier_life",
    ),
    Sabotage(
        "generations: what the rows of another one are read by is watched",
        "generation-reread",
        "if facts is not None and _reads(facts) != _reads(now):",
        "if False:",
        REBUILD + "test_a_generation_whose_conditions_function_is_replaced_is_looked_at_anew",
    ),
    Sabotage(
        "migration: who noted a generation's problem may move it",
        "generation-grants-life",
        "EXECUTE format('GRANT UPDATE (state, facts, live_until, standby_until, emptied_at, removed_at, servers) '",
        "EXECUTE format('GRANT UPDATE (servers) '",
        ROLES,
    ),
    Sabotage(
        "migration: the listener may delete what is left",
        "generation-grants-listener",
        "GRANT DELETE ON reindexer.due TO %s",
        "GRANT SELECT ON reindexer.due TO %s",
        ROLES,
    ),
    Sabotage(
        "dropped: what a claim holds is left",
        "dropped-claims-left",
        "WHERE lease_until IS NULL OR lease_until < clock_timestamp()",
        "",
        DROPPED + "test_what_a_claim_holds_stays_until_it_ends",
    ),
    Sabotage(
        "dropped: emptied only when nothing can be settled any more",
        "dropped-emptied-last",
        "AND NOT EXISTS (SELECT FROM reindexer.due WHERE due.source = gone.source AND due.generation = gone.number)",
        "",
        DROPPED + "test_what_is_settled_after_the_drop_is_deleted_as_well",
    ),
    Sabotage(
        "dropped: a collection that a late request made again goes again",
        "dropped-collection-again",
        "OR (removed_at < emptied_at + interval '1 day'",
        "OR (false",
        DROPPED + "test_a_collection_that_a_late_request_made_again_is_dropped_again",
    ),
    Sabotage(
        "dropped: the alias leaves a collection first",
        "alias-before-drop",
        "for source in promoted:",
        "for source in []:",
        DROPPED + "test_an_alias_leaves_a_collection_before_it_is_dropped",
    ),
)
