"""Generations: what is true of one never stops, answers or hides anything of another."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

ROWS = "tests/integration/test_generation_rows.py::"
MIGRATION = ROWS + "test_the_migration_carries_over_what_is_known_and_who_may_write_it"

GENERATIONS = (
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
        "SELECT name, generation, embedder, account, collection_id, problem, attached_at",
        "SELECT name, generation, NULL, '', NULL, NULL, attached_at",
        MIGRATION,
    ),
    Sabotage(
        "generations: a process of the version before reads what it knows of the active one",
        "generation-readable-by-older",
        "generation = NEW.number;",
        "false;",
        MIGRATION,
    ),
)
