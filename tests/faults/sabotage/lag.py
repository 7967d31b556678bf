"""Rows about ages and counts: what makes them true when somebody is dead."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

AGES = "tests/integration/test_lag.py::"
METRICS = "tests/integration/test_metrics.py::"

LAG = (
    Sabotage(
        "ages: what came while a claim held the item counts from its own commit",
        "age-change-during-claim",
        "ELSE held.later_changed_at END",
        "ELSE clock_timestamp() END",
        AGES + "test_an_edit_that_a_claim_has_not_seen_counts_from_its_own_commit",
    ),
    Sabotage(
        "ages: of merged changes the oldest counts",
        "age-oldest-merged-change",
        "THEN least(due.changed_at, excluded.changed_at)",
        "THEN excluded.changed_at",
        AGES + "test_a_later_edit_does_not_make_an_older_one_younger",
    ),
    Sabotage(
        "ages: another try of what FAILED is as old as its change",
        "suspect-retry-after-heal",
        "greatest(0, ledger.losses - 1), ledger.changed_at",
        "greatest(0, ledger.losses - 1), NULL",
        AGES + "test_a_failed_change_that_heals_keeps_its_age_until_it_is_in_qdrant",
    ),
    Sabotage(
        "ages: a change of a long transaction counts from its commit",
        "drain-scan-watermark",
        "looked_at=self._looked_at, ",
        "",
        "tests/faults/test_lag.py::test_the_listener_counts_a_change_of_a_long_transaction_from_its_commit",
    ),
    Sabotage(
        "readiness: workers that beat and take nothing are told",
        "readiness-stalled-workers",
        "return row[0] if row else None\n",
        "return None\n",
        METRICS + "test_readyz_tells_of_work_that_nobody_takes_though_workers_beat",
    ),
    Sabotage(
        "counters: what can't be written is kept",
        "counter-unwritten-kept",
        "metrics.give_back(sums)\n",
        "pass\n",
        METRICS + "test_what_could_not_be_written_is_written_when_postgres_is_back",
    ),
    Sabotage(
        "metrics: no number is shown that may be old",
        "metrics-no-stale-lag",
        "of_postgres = (states, counters, lag) if up else ()",
        "of_postgres = (states, counters, lag)",
        METRICS + "test_what_took_long_to_count_is_not_shown_once_postgres_is_away",
    ),
    Sabotage(
        "ages: items that a related change led to are as old as it",
        "fan-out-is-older",
        "if found:",
        "if False:",
        "tests/integration/test_as_of.py::test_a_change_of_a_related_row_counts_until_its_items_are_settled",
    ),
    Sabotage(
        "ages: a change that a drain passed over is as old as it is",
        "drain-passed-over",
        "= (SELECT count(*) FROM taken)",
        "IS NOT NULL",
        "tests/integration/test_as_of.py::test_a_change_that_a_drain_passed_over_counts_from_its_commit",
    ),
)
