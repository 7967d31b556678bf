"""Generations: what is true of one never stops, answers or hides anything of another."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

ROWS = "tests/integration/test_generation_rows.py::"
LOCKS = "tests/integration/test_generation_locks.py::"
MIGRATION = LOCKS + "test_the_migration_carries_over_what_is_known_and_who_may_write_it"

EVERY = ROWS + "test_a_change_makes_an_item_due_for_every_generation_that_is_kept"
OWN = ROWS + "test_each_generation_is_filled_by_its_own_definition_and_the_alias_stays"

GENERATIONS = (
    Sabotage(
        "generations: a change reaches every one that is kept",
        "drain-every-generation",
        "state NOT IN ('broken', 'dropped')\n",
        "state = 'active'\n",
        EVERY,
    ),
    Sabotage(
        "generations: freshness does not pay for those that no search uses",
        "drain-active-lane",
        "CASE WHEN generation.state = 'active' OR generation.live_until > statement_timestamp() THEN items.lane "
        "ELSE 'bulk' END,",
        "items.lane,",
        EVERY,
    ),
    Sabotage(
        "generations: an edit wakes no worker for those that no search uses",
        "drain-others-later",
        "AND queued.generation = source.generation) AS bulk,",
        ") AS bulk,",
        "tests/faults/generations/test_kept_beside.py::test_an_edit_wakes_no_worker_for_a_standby",
    ),
    Sabotage(
        "generations: a look at the whole source reaches every one, whatever run it joins",
        "look-every-generation",
        "generation = NULL,\n",
        "",
        ROWS + "test_a_truncate_reaches_the_active_one_while_a_run_of_another_is_open",
    ),
    Sabotage(
        "generations: of two lost collections both are filled again",
        "lost-collection-every-lost",
        "CASE WHEN run.generation = excluded.generation THEN run.generation END,",
        "run.generation,",
        ROWS + "test_two_lost_collections_are_both_filled_again",
    ),
    Sabotage(
        "generations: a run over every one ends when that of searches is through",
        "run-finish-active",
        " AND due.generation = coalesce(run.generation, source.generation))\n",
        ")\n",
        ROWS + "test_a_run_over_every_generation_ends_when_the_active_one_is_through",
    ),
    Sabotage(
        "generations: nobody but the table's trigger may write a source's row by their function",
        "generation-mirror-private",
        "REVOKE EXECUTE ON FUNCTION reindexer.copy_to_source() FROM PUBLIC;",
        "",
        LOCKS + "test_a_user_of_the_schema_can_not_write_a_source_by_a_trigger_of_his_own",
    ),
    Sabotage(
        "ordered locks: attaching",
        "attach-lock-order",
        'connection.execute(load("sources.sql")["hold_generations"], {"name": source.name})\n',
        "",
        LOCKS + "test_whoever_writes_a_source_waits_for_its_generations_first[attach]",
    ),
    Sabotage(
        "ordered locks: detaching",
        "detach-lock-order",
        'connection.execute(queries["hold_generations"], named)\n',
        "",
        LOCKS + "test_whoever_writes_a_source_waits_for_its_generations_first[detach]",
    ),
    Sabotage(
        "ordered locks: names that are followed",
        "generation-lock-order",
        "FOR UPDATE OF generation\n",
        "\n",
        LOCKS + "test_whoever_writes_a_source_waits_for_its_generations_first[names]",
    ),
    Sabotage(
        "migration: a lock that somebody holds is waited for",
        "migration-lock-retry",
        "(LockNotAvailable, DeadlockDetected)",
        "()",
        LOCKS + "test_the_migration_waits_for_a_transaction_that_holds_a_table",
    ),
    Sabotage(
        "generations: each is filled by its own definition",
        "generation-own-definition",
        "coalesce(%(generation)s::integer, source.generation)",
        "source.generation",
        OWN,
    ),
    Sabotage(
        "generations: the alias names the one that searches use",
        "alias-active-only",
        "if collection.is_active:\n    _point_alias(client, collection)\n",
        "_point_alias(client, Collection(collection.source, collection.name, collection.alias + '_'))\n",
        OWN,
    ),
    Sabotage(
        "generations: a request is answered by the generation that it was made of",
        "request-own-generation",
        "AND request.generation = held.generation\n",
        "\n",
        ROWS + "test_an_outcome_in_another_generation_answers_no_request",
    ),
    Sabotage(
        "generations: another one's backlog holds up no run",
        "run-own-backlog",
        " AND due.generation = coalesce(run.generation, source.generation)",
        "",
        ROWS + "test_the_backlog_of_another_generation_holds_up_no_run",
    ),
    Sabotage(
        "generations: what is due for another one is not in the backlog",
        "backlog-active-generation",
        " AND source.generation = due.generation\n",
        "\n",
        ROWS + "test_what_is_due_for_another_generation_is_not_in_the_backlog",
    ),
    Sabotage(
        "generations: a problem of another one is not the source's",
        "problem-active-generation",
        "generation.number = source.generation\n",
        "generation.number = 2\n",
        ROWS + "test_a_problem_of_another_generation_is_not_the_sources",
    ),
    Sabotage(
        "generations: an upgrade carries over what is known of the one that there is",
        "generation-carried-over",
        "SELECT name, generation, definition, embedder, account, collection_id, problem, attached_at",
        "SELECT name, generation, definition, NULL, '', NULL, NULL, attached_at",
        MIGRATION,
    ),
    Sabotage(
        "generations: a process of the version before reads what it knows of the active one",
        "generation-readable-by-older",
        "generation = NEW.number\n",
        "false\n",
        MIGRATION,
    ),
)
