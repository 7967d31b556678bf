"""Rows about several claims at once in one process."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/faults/test_worker_pool.py::"
WAY = "tests/faults/test_priority_gate.py::"

ENDS = "tests/faults/test_worker_ends.py::"

WORKER_POOL = (
    Sabotage(
        "a pool process that ends does not wait for half a minute for what the main process forgot",
        "pool-process-leaves",
        "billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10",
        "pass",
        ENDS + "test_a_worker_ends_soon_that_is_told_to_just_after_it_gave_its_pool_a_message",
    ),
    Sabotage(
        "an outdated worker that does not end is killed",
        "outdated-worker-killed",
        "os._exit(code)",
        "return",
        ENDS + "test_an_outdated_worker_ends_even_if_its_pool_does_not",
    ),
    Sabotage(
        "the first edit of a pool process waits for no client to be made",
        "warm-pool-process",
        'threading.Thread(target=_warm_in_thread, args=[worker], name="warm", daemon=True).start()\n',
        "del worker\n",
        "tests/integration/test_celery.py::test_each_pool_process_is_connected_before_its_first_edit",
    ),
    Sabotage(
        "nor for that of the provider, where Qdrant was away when the process started",
        "warm-provider-client",
        "worker.embedder_of(source)",
        "del source",
        "tests/integration/test_celery.py::test_a_process_makes_its_providers_clients_while_qdrant_is_away",
    ),
    Sabotage(
        "helpers: a process that waits for the provider begins with the next edit",
        "pool-thread-provider-wait-handoff",
        "self.pool.submit(lane, partial(work, lane)):",
        "work(lane) is None:",
        TESTS + "test_a_process_has_several_edits_in_flight_while_the_provider_takes_its_time[prefork]",
    ),
    Sabotage(
        "a backfill never holds up the process that hears of edits",
        "backfill-off-main-thread",
        "if edits or threading.current_thread() is not threading.main_thread():",
        "if lane:",
        TESTS + "test_an_edit_is_not_held_up_by_the_batches_of_a_backfill",
    ),
    Sabotage(
        "helpers: a backfill has more of them while its provider is far away",
        "pool-thread-backfill-extra",
        "return 2 * self._most if",
        "return self._most if",
        TESTS + "test_a_backfill_has_twice_the_helpers_while_the_provider_is_far_away_and_nobody_edits[far away]",
    ),
    Sabotage(
        "helpers: a busy provider is not asked for more",
        "pool-thread-busy-provider-limit",
        "math.inf) < BUSY_S",
        "math.inf) < math.inf",
        TESTS + "test_a_backfill_has_twice_the_helpers_while_the_provider_is_far_away_and_nobody_edits[busy]",
    ),
    Sabotage(
        "helpers: while there are edits a backfill has no more of them",
        "pool-thread-backfill-extra",
        "lane != Lane.LIVE and not self._edits else",
        "lane != Lane.LIVE else",
        TESTS
        + "test_a_backfill_has_twice_the_helpers_while_the_provider_is_far_away_and_nobody_edits[far away, and there are edits]",
    ),
    Sabotage(
        "helpers: those that are too many stop, and no others",
        "pool-thread-surplus-exit",
        "self._leave()  # at once, or all of them would go\n",
        "",
        TESTS + "test_helpers_that_are_too_many_once_there_are_edits_stop_after_their_batch_and_no_others",
    ),
    Sabotage(
        "the helpers of a worker that ends begin nothing more",
        "pool-thread-worker-end-stop",
        "if time.monotonic() >= until or not self.pool.goes_on():",
        "if time.monotonic() >= until:",
        TESTS + "test_a_worker_that_is_told_to_end_settles_what_it_has_in_flight_and_begins_nothing_more",
    ),
    Sabotage(
        "while there are edits, batches of a backfill are half as large",
        "edit-halved-backfill-batch",
        "return math.ceil(batch_size / 2) if quick and self._edits and lane != Lane.LIVE else batch_size",
        "return batch_size",
        TESTS + "test_batches_of_a_backfill_are_half_as_large_while_there_are_edits[edits]",
    ),
    Sabotage(
        "but not where the provider takes its time: a claim tells how long it was asked",
        "pool-thread-provider-time-measure",
        "self.asked_s[dependency] = self.asked_s.get(dependency, 0.0) + time.monotonic() - began\n",
        "pass\n",
        TESTS + "test_batches_of_a_backfill_are_half_as_large_while_there_are_edits"
        "[edits, and the provider takes its time]",
    ),
    Sabotage(
        "a batch gives way to edits before it writes",
        "edit-priority-before-write",
        "self.gate.yield_to_edits(self.deadline.left_s())\n",
        "",
        WAY + "test_a_batch_gives_way_before_it_asks_the_provider_and_before_it_writes",
    ),
    Sabotage(
        "and before it asks the provider",
        "edit-priority-before-embed",
        "self.gate.yield_to_edits(self.deadline.left_s())\n",
        "",
        WAY + "test_a_batch_gives_way_before_it_asks_the_provider_and_before_it_writes",
    ),
    Sabotage(
        "an edit that is worked on goes ahead",
        "edit-work-priority",
        "execution.gate.taken(), using",
        "using",
        WAY + "test_an_edit_goes_ahead_while_it_is_worked_on",
    ),
    Sabotage(
        "an edit that is claimed goes ahead",
        "edit-claim-priority",
        "with self.pool.gate(lane).taken(), self",
        "with self",
        WAY + "test_an_edit_goes_ahead_already_while_it_is_claimed",
    ),
    Sabotage(
        "an edit that is written goes ahead anew",
        "edit-write-priority",
        "self.gate.taken(), ",
        "",
        WAY + "test_an_edit_goes_ahead_anew_while_it_is_written",
    ),
    Sabotage(
        "edits that never end do not stop a backfill",
        "backfill-yield-limit",
        "min(self._until, give_until)",
        "self._until",
        WAY + "test_edits_that_never_end_hold_a_request_up_and_do_not_stop_it",
    ),
    Sabotage(
        "nor do they cost a claim its lease",
        "lease-yield-limit",
        "min(most_s, self._give_s)",
        "self._give_s",
        WAY + "test_a_claim_whose_lease_is_nearly_over_gives_way_no_longer",
    ),
    Sabotage(
        "nor does an edit that waits for the provider",
        "backfill-yield-limit",
        "min(self._until, give_until)",
        "give_until",
        WAY + "test_an_edit_that_waits_for_others_is_waited_for_no_longer",
    ),
    Sabotage(
        "a suspect is worked on with nothing beside it",
        "suspect-item-isolation",
        "now.changed.wait_for(lambda: not now.at_work)\n",
        "",
        TESTS + "test_a_suspect_is_worked_on_with_nothing_beside_it",
    ),
)
