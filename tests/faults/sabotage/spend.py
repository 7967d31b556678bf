"""Rows about the account of what providers cost."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_spend.py::"

SPEND = (
    Sabotage(
        "spend: what a request may cost is set aside before it is sent",
        "spend-reserved-first",
        'row["tokens"] = tokens',
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
)
