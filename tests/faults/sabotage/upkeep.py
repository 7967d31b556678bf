"""Rows about what finds and repairs what was missed: healing, scans, reconcile."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

FLOW = "tests/integration/test_drain_to_settle.py::"

UPKEEP = (
    Sabotage(
        "healing: what FAILED for a passing cause is tried again",
        "heal-passing-failure",
        "ledger.outcome = 'FAILED' AND ledger.heal_at <= statement_timestamp()",
        "false",
        FLOW + "test_what_failed_for_a_passing_cause_is_tried_again_after_growing_waits_and_heals",
    ),
    Sabotage(
        "the sweep's timer: the listener heals by itself",
        "timer-sweep-healing",
        "if self._heal_timer.due(now):\n",
        "if False:\n",
        "tests/faults/test_qdrant_away.py::test_qdrant_away_past_all_retries_is_failed_with_the_reason_and_heals_by_itself",
    ),
    Sabotage(
        "a walk looks at the ledger too: rows that are gone without a trace leave the index",
        "walk-ledger-pass",
        'return "ledger" if self.state == "rows" and looks else "working"',
        'return "working"',
        FLOW + "test_truncate_empties_the_index",
    ),
    Sabotage(
        "reconcile: what is in flight is no difference",
        "reconcile-in-flight-ignored",
        "if was.moves or now.moves or was.token != now.token:",
        "if False:",
        "tests/integration/test_reconcile.py::test_what_is_in_flight_is_no_difference",
    ),
    Sabotage(
        "reconcile: many deletions have to be allowed",
        "reconcile-deletion-limit",
        "check_deletions(findings, max_deletions)\n",
        "",
        "tests/integration/test_reconcile.py::test_many_orphans_are_not_repaired_unless_their_number_is_allowed",
    ),
)
