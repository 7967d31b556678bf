"""Rows about several claims at once in one process."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/faults/test_crew.py::"

CREW = (
    Sabotage(
        "helpers: a process that waits for the provider begins with the next edit",
        "reindexer/tasks.py",
        "crew.help(lane, partial(_work_on, lane, math.inf)):",
        "_work_on(lane, math.inf) is None:",
        TESTS + "test_a_process_has_several_edits_in_flight_while_the_provider_takes_its_time[prefork]",
    ),
    Sabotage(
        "a backfill never holds up the process that hears of edits",
        "reindexer/tasks.py",
        "if edits or threading.current_thread() is not threading.main_thread():",
        "if lane:",
        TESTS + "test_an_edit_is_not_held_up_by_the_batches_of_a_backfill",
    ),
    Sabotage(
        "the helpers of a worker that ends begin nothing more",
        "reindexer/flow/work.py",
        "if time.monotonic() >= until or self.crew.ending:",
        "if time.monotonic() >= until:",
        TESTS + "test_a_worker_that_is_told_to_end_settles_what_it_has_in_flight_and_begins_nothing_more",
    ),
    Sabotage(
        "a suspect is worked on with nothing beside it",
        "reindexer/flow/crew.py",
        "            self._changed.wait_for(lambda: not self._at_work)\n",
        "",
        TESTS + "test_a_suspect_is_worked_on_with_nothing_beside_it",
    ),
)
