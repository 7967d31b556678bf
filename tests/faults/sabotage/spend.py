"""Rows about the account of what providers cost."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_spend.py::"

BUDGETS = "tests/integration/test_budgets.py::"

LOCKS = "tests/integration/test_budget_locks.py::"

SPEND = (
    Sabotage(
        "spend: what a request may cost is set aside before it is sent",
        "spend-reserved-first",
        'row["tokens"] = granted.tokens',
        'row["tokens"] = 0',
        TESTS + "test_a_request_is_reserved_before_the_provider_is_asked",
    ),
    Sabotage(
        "spend: what a dead process had set aside is counted as spent",
        "spend-of-the-dead",
        "sum(tokens),",
        "0,",
        TESTS + "test_the_block_of_a_process_that_died_is_counted_as_spent",
    ),
    Sabotage(
        "spend: the listener looks for what dead processes had set aside",
        "spend-dead-looked-for",
        "count_the_dead(connection)",
        "pass",
        "tests/faults/test_spend.py::test_eight_processes_account_to_the_token_and_one_that_is_killed_at_its_most",
    ),
    Sabotage(
        "budget: whoever reserves for one does so after the others",
        "budget-one-by-one",
        "ORDER BY source, kind, period FOR UPDATE",
        "ORDER BY source, kind, period",
        BUDGETS + "test_who_reserves_sees_what_was_reserved_at_the_same_moment",
    ),
    Sabotage(
        "budget: no more is set aside than is left",
        "budget-holds",
        "if left < tokens * price]",
        "if left < 0]",
        BUDGETS + "test_no_more_is_set_aside_than_a_budget_has",
    ),
    Sabotage(
        "budget: a settlement sets nothing more aside",
        "budget-no-refill",
        "CASE WHEN has_budget OR held.day",
        "CASE WHEN held.day",
        BUDGETS + "test_a_process_keeps_a_thousandth_of_a_budget_at_most_without_use",
    ),
    Sabotage(
        "budget: it is asked before anything is set aside",
        "budget-asked-first",
        "granted = budgets.grant(connection, charged, purpose, tokens, BLOCK)",
        "granted: Grant | OverBudget = Grant(tokens + BLOCK)",
        BUDGETS + "test_no_more_is_set_aside_than_a_budget_has",
    ),
    Sabotage(
        "budget: claims leave alone what waits for it",
        "budget-claim-gate",
        "AND NOT drawn.over",
        "",
        BUDGETS + "test_backfills_stop_while_edits_and_all_that_costs_nothing_go_on",
    ),
    Sabotage(
        "budget: no message is sent for what waits for it",
        "budget-dispatch-gate",
        "AND NOT EXISTS (SELECT FROM reindexer.over_budget AS over",
        "AND NOT EXISTS (SELECT FROM (SELECT * FROM reindexer.over_budget WHERE false) AS over",
        BUDGETS + "test_no_message_is_sent_for_what_waits_for_a_budget",
    ),
    Sabotage(
        "budget: a request is made smaller until it fits",
        "budget-smaller-request",
        "if isinstance(error, OverBudget):",
        "if False:",
        BUDGETS + "test_a_request_is_made_smaller_where_a_part_of_it_is_within_the_budget",
    ),
    Sabotage(
        "budget: a refusal says nothing about the provider",
        "budget-refusal-no-answer",
        "except (NotAsked, MayNotSpend):",
        "except ():",
        BUDGETS + "test_a_refusal_says_nothing_about_the_provider",
    ),
    Sabotage(
        "budget: the listener opens it again",
        "budget-reopened",
        "budgets.reopen(connection)",
        "pass",
        BUDGETS + "test_the_listener_opens_it_again_when_the_day_is_over",
    ),
    Sabotage(
        "spend: a copy of the database sends no request",
        "spender-copy-refusal",
        "if holder != identity:",
        "if False:",
        BUDGETS + "test_a_copy_of_the_database_asks_no_provider_until_it_is_adopted",
    ),
    Sabotage(
        "budget: it opens for a part of the request that closed it",
        "budget-part-fits",
        "if budget.is_closed:",
        "if False:",
        BUDGETS + "test_it_opens_again_for_parts_of_a_request_that_was_too_large",
    ),
    Sabotage(
        "budget: a text above all of it does not close it for ever",
        "budget-opens-whole",
        "least(greatest(budget.wanted, micro_dollars / 100), micro_dollars)",
        "greatest(budget.wanted, micro_dollars / 100)",
        BUDGETS + "test_a_text_above_the_whole_budget_does_not_close_it_for_ever",
    ),
    Sabotage(
        "budget: the listener waits for nobody to open one",
        "budget-open-no-wait",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        LOCKS + "test_the_listener_waits_for_nobody",
        fails_with="lock timeout",
    ),
    Sabotage(
        "budget: the listener waits for nobody to tell that one is nearly used",
        "budget-told-no-wait",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        LOCKS + "test_the_listener_waits_for_nobody",
        fails_with="lock timeout",
    ),
    Sabotage(
        "budget: the listener waits for nobody to end a run's",
        "budget-end-no-wait",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        LOCKS + "test_the_listener_waits_for_nobody",
        fails_with="lock timeout",
    ),
    Sabotage(
        "spend: a statement that Postgres refused leaves the block as it is",
        "spend-refusal-keeps-block",
        "if not _is_refusal(exc):",
        "if True:",
        LOCKS + "test_a_reservation_that_waited_too_long_costs_nothing",
    ),
    Sabotage(
        "spend: what Postgres refuses is no answer of the provider",
        "spend-postgres-not-provider",
        "except (TransientError, psycopg.Error) as exc:",
        "except (DependencyUnavailable, psycopg.Error) as exc:",
        LOCKS + "test_items_use_no_attempt_and_the_provider_is_not_thought_to_answer",
    ),
    Sabotage(
        "spend: a process without a pool does not wait for ever",
        "budget-lock-timeout",
        "partial(_own_connection, settings, answer_s=settings.postgres_timeout_s)",
        "partial(_own_connection, settings)",
        LOCKS + "test_a_reservation_that_waited_too_long_costs_nothing",
    ),
    Sabotage(
        "spend: an item whose request was not made uses no attempt",
        "spend-unasked-no-attempt",
        "isinstance(error, NotAsked)",
        "over",
        LOCKS + "test_items_use_no_attempt_and_the_provider_is_not_thought_to_answer",
    ),
    Sabotage(
        "budget: a run's does not stop edits, which it does not count",
        "budget-run-no-edits",
        'if period == "run" and stops_edits:',
        "if False:",
        BUDGETS + "test_a_runs_budget_can_not_stop_edits",
    ),
    Sabotage(
        "budget: a run's leaves the blocks of edits alone",
        "budget-run-own-purposes",
        "AND (period <> 'run' OR held.purpose IN ('backfill', 'rebuild'))",
        "",
        BUDGETS + "test_edits_beside_a_run_with_a_budget_are_set_aside_in_blocks",
    ),
    Sabotage(
        "budget: what waits for one probes no provider",
        "budget-no-probe",
        "AND NOT head.over",
        "",
        BUDGETS + "test_what_waits_for_a_budget_does_not_probe_the_provider",
    ),
)
