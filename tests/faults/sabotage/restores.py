"""Rows about reconcile, and about databases that are not what they were."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

RECONCILE = "tests/integration/test_reconcile.py::"
COPY = "tests/faults/test_copied_database.py::"

RESTORES = (
    Sabotage(
        "reconcile: what is repaired is doubtful, for the ledger says that it is well",
        "token-above-qdrant-repair",
        "'bulk', true, nullif(wrong.token, 0)",
        "'bulk', false, nullif(wrong.token, 0)",
        "tests/faults/test_restores.py::test_qdrant_lost_its_data",
    ),
    Sabotage(
        "reconcile: a change that is settled between two questions of the second look shows by its token",
        "reconcile-in-flight-ignored",
        " or was.token != now.token:",
        ":",
        RECONCILE + "test_an_edit_that_is_settled_between_two_questions_of_the_second_look_is_no_difference",
    ),
    Sabotage(
        "reconcile: what a claim holds is not repaired beneath it",
        "reconcile-claimed-item-spared",
        "WHERE due.lease_until IS NULL\n",
        "",
        RECONCILE + "test_a_repair_leaves_what_a_claim_holds_and_finds_it_the_next_time",
    ),
    Sabotage(
        "reconcile: another embedder than the workers' compares nothing",
        "reconcile-same-embedder",
        "require_ours(index, found.collection, ours)\n",
        "",
        RECONCILE + "test_the_command_never_compares_by_another_embedder_than_the_workers",
    ),
    Sabotage(
        "ids: an id counts only as Postgres prints the key",
        "key-exact-spelling",
        ' AND {key} COLLATE "C" = wanted.item_id OFFSET 0',
        " OFFSET 0",
        RECONCILE + "test_each_kind_of_difference_is_found_whatever_the_ledger_says_and_repaired",
    ),
    Sabotage(
        "a condition is tried on the wanted rows only",
        "key-exact-spelling",
        " OFFSET 0) AS t{related} {meets}",
        ") AS t{related} {meets}",
        "tests/integration/test_attach.py::test_a_condition_that_fails_on_a_row_fails_that_item_alone",
    ),
    Sabotage(
        "the instance: a copy of the database is refused",
        "instance-database-copy-refusal",
        "owner.require_ours(collection.name, noted)\n",
        "",
        COPY + "test_a_copy_of_the_database_writes_nothing_to_the_originals_collection",
    ),
    Sabotage(
        "the audit: what was refused leaves no row",
        "audit-rollback-on-refusal",
        "with connection.transaction():\n    draft = Draft(source)\n    yield draft\n    note(connection, who, action, draft.source, draft.details)\n",
        "with connection.transaction():\n    draft = Draft(source)\n    note(connection, who, action, draft.source, draft.details)\nyield draft\n",
        "tests/integration/test_dead_letters.py::test_what_was_refused_leaves_no_row_and_no_row_holds_the_key",
    ),
)
