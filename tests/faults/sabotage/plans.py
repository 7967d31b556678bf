"""Rows about plans: what a change costs, and that what is applied is what was shown."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

ATTACH = "tests/integration/test_attach.py::"
ESTIMATE = "tests/integration/test_estimate.py::"
PLAN = "tests/integration/plans/test_plan.py::"
APPLY = "tests/integration/plans/test_apply.py::"

PLANS = (
    Sabotage(
        "plans: what was measured of a source that is detached is forgotten, since its name may come back",
        "counter-detached-source",
        "labels::jsonb ->> 'source' = %(name)s",
        "labels::jsonb ->> 'source' = %(name)s AND false",
        ATTACH + "test_detach_leaves_the_table_as_it_was",
    ),
    Sabotage(
        "plans: what chunks share is counted with each of them",
        "estimate-chunk-overlap",
        "sum(count(each.input(text)) for each in chunks)",
        "count(text)",
        ESTIMATE + "test_what_chunks_share_is_counted_with_each_of_them",
    ),
    Sabotage(
        "plans: what was embedded so far narrows the range",
        "plan-measured-tokens",
        "measured.is_enough",
        "False",
        PLAN + "test_the_range_holds_what_is_billed_and_narrows_to_what_was_measured[short Korean texts]",
    ),
    Sabotage(
        "plans: a text that the index holds is not counted",
        "plan-known-chunks",
        "chunk.fingerprint in there and",
        "False and",
        PLAN + "test_only_rows_whose_text_a_change_changes_are_counted",
    ),
    Sabotage(
        "plans: a source whose changes are all to be rebuilds is not changed in place",
        "change-asked-rebuild",
        "asked and",
        "False and",
        PLAN + "test_a_source_may_say_that_every_change_of_it_is_a_rebuild",
    ),
    Sabotage(
        "plans: a plan that was edited after it was shown is refused",
        "plan-unedited-file",
        "hashed != _hash(told)",
        "False",
        APPLY + "test_a_plan_that_somebody_edited_is_refused",
    ),
    Sabotage(
        "plans: the upper end of the price counts",
        "plan-most-dollars",
        "dollars.high > most",
        "dollars.low > most",
        APPLY + "test_a_plan_above_the_price_is_refused",
    ),
    Sabotage(
        "plans: another database's plan is refused",
        "plan-same-database",
        "here != plan.database",
        "False",
        APPLY + "test_a_plan_of_another_database_is_refused",
    ),
    Sabotage(
        "plans: a plan is refused if the world moved since",
        "plan-same-world",
        "if moved:",
        "if False:",
        APPLY + "test_a_plan_is_refused_if_the_world_moved_since",
    ),
    Sabotage(
        "plans: a repeated apply goes on with the generation that the first one made",
        "plan-rebuild-once",
        "(begun := _under_way(connection, plan)) is not None",
        "(begun := _under_way(connection, plan)) is not None and False",
        APPLY + "test_killed_between_a_generation_and_its_fill_and_repeated_it_is_filled",
    ),
    Sabotage(
        "plans: a new payload column has its index when apply is through",
        "plan-new-payload-index",
        'drift.kind == "payload_index"',
        "False",
        APPLY + "test_after_apply_a_new_payload_column_has_its_index",
    ),
    Sabotage(
        "plans: a rebuild is by the embedder that the plan says",
        "plan-same-embedder",
        "makes not in (None, embedder.fingerprint)",
        "False",
        APPLY + "test_the_settings_have_to_make_the_vectors_that_the_plan_says",
    ),
)
