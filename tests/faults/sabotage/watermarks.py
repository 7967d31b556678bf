"""Rows about old snapshots: where looks into the queues begin."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

OLD = "tests/faults/test_old_snapshot.py::"
SLOW = OLD + "test_claims_and_drains_stay_fast_while_an_old_snapshot_is_open_and_300000_changes_go_through"

WATERMARKS = (
    Sabotage(
        "claims begin where they last found something",
        "claim-scan-watermark",
        "watermark=self._watermarks.get(lane)",
        "watermark=None",
        SLOW,
        alone=True,
    ),
    Sabotage(
        "drains begin where they last found something",
        "drain-scan-watermark",
        ", watermark=self._watermark)",
        ")",
        SLOW,
        alone=True,
    ),
    Sabotage(
        "dispatch counts from where it last found something",
        "dispatch-scan-watermark",
        "begins = {lane: self._watermarks[lane].begin(began_s) for lane in lanes}",
        "begins: dict[str, Begins] = dict.fromkeys(lanes, (None, None))",
        SLOW,
        alone=True,
    ),
    Sabotage(
        "what was planned for an empty table is planned anew for a backlog",
        "plan-empty-table-replan",
        "return None if rows <= FEW else False",
        "return None",
        "tests/faults/test_kept_plans.py::test_what_was_planned_while_all_was_quiet_is_planned_anew_for_a_backlog",
        alone=True,
    ),
    Sabotage(
        "rows that took long are not taken for rows that lie in the way",
        "drain-time-of-rows",
        "if drained.first_page is not None:",
        "if False:",
        "tests/integration/test_drain.py::test_a_drain_whose_rows_took_long_makes_no_later_change_wait",
    ),
    Sabotage(
        "claims look at all of a lane now and then",
        "claim-periodic-full-scan",
        "return self._at if now_s < self._whole_at_s else None",
        "return self._at",
        OLD + "test_what_lies_below_the_floor_is_found_by_the_next_whole_look",
    ),
)
