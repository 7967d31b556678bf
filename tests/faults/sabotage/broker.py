"""Rows about messages, what the broker is shared with, and what it answers."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

PREFIX = "tests/integration/test_prefix.py::"
FAILOVER = "tests/faults/test_broker_failover.py::"
EMBEDDED = "tests/integration/test_embedded_redis.py::"
ALL = "test_workers_listener_and_api_come_back_by_themselves_from_a_redis_that_answers_with_errors"

MESSAGES = (
    Sabotage(
        "resend: asked whose message never left are sent by the listener",
        "request-resend",
        "self._with_broker(lambda: self.dispatch.resend(connection))\n",
        "",
        "tests/faults/test_broker_faults.py::test_a_request_whose_sender_died_gets_its_own_message_from_the_listener",
    ),
    Sabotage(
        "dispatch on a timer: a flushed queue is filled again",
        "timer-dispatch-refill",
        "if self._dispatch_timer.due(now) or (walked and self._refill_timer.due(now)):",
        "if walked:",
        "tests/integration/test_four_processes.py::test_a_flushed_broker_costs_time_and_no_edit",
    ),
    Sabotage(
        "dispatch is bounded: few messages whatever the backlog",
        "dispatch-message-limit",
        "self.max_messages",
        "10_000",
        "tests/integration/test_celery.py::test_the_broker_holds_a_bounded_number_of_messages_without_ids",
    ),
    Sabotage(
        "messages that are sent without a look at the queue are counted",
        "dispatch-unseen-sends-counted",
        "queue.at_most < self.max_messages",
        "queue.at_most > 0",
        "tests/integration/test_celery.py::test_edits_one_by_one_fill_no_queue_from_which_nobody_takes",
    ),
)

SHARED_BROKER = (
    Sabotage(
        "a second database under one prefix is refused at the start",
        "instance-second-database-refusal",
        "if holder != ours:\n    raise UsageError(",
        "if False:\n    raise UsageError(",
        PREFIX
        + "test_a_second_database_is_refused_at_the_start_with_one_line_and_let_in_under_a_prefix_of_its_own[listen]",
        fails_with="TimeoutExpired",  # it was let in, and goes on
    ),
    Sabotage(
        "nothing is sent into queues that are another database's",
        "broker-queue-ownership",
        "if holder != self._owner:\n",
        "if False:\n",
        PREFIX + "test_who_sends_notes_the_database_anew_after_a_flush_and_sends_nothing_once_another_was_faster",
    ),
    Sabotage(
        "a message about another database's work is dropped",
        "task-foreign-message-dropped",
        "if ours is None or owner == ours:\n",
        "if True:\n",
        PREFIX + "test_a_message_about_another_databases_work_is_dropped_and_told_and_its_own_is_sent_again",
    ),
    Sabotage(
        "of older queues only what is ours is taken",
        "broker-legacy-own-tasks",
        "if task not in (REQUEST_TASK, WORK_TASK):\n",
        "if not task:\n",
        PREFIX
        + "test_another_applications_tasks_in_queues_of_any_name_stay_as_they_are_and_ours_among_them_are_taken_over",
    ),
    Sabotage(
        "what a worker holds is not another application's to give back",
        "broker-unacked-namespace",
        'f"{names.prefix}.{key}" for key in',
        "key for key in",
        PREFIX + "test_what_a_worker_holds_is_noted_under_the_prefix",
    ),
    Sabotage(
        "no answer of the broker ends a worker",
        "broker-error-survival",
        "*self.channel_errors,\nRedisError,\n",
        "",
        FAILOVER + ALL + "[a read-only replica]",
    ),
    Sabotage(
        "a broker that answers with errors is asked less and less often",
        "broker-error-backoff",
        "while time.monotonic() < until:\n",
        "while False:\n",
        FAILOVER + "test_a_redis_that_answers_with_errors_is_not_asked_in_a_loop",
    ),
    Sabotage(
        "whether the broker is well is asked by a write",
        "broker-write-probe",
        "with self._connection(look=True):",
        "with self._connection():",
        FAILOVER + "test_a_redis_that_has_just_become_a_replica_is_not_well",
    ),
    Sabotage(
        "a broker by TLS is verified unless the URL says otherwise",
        "broker-tls-verification",
        'given.get("ssl_cert_reqs", "required")',
        'given.get("ssl_cert_reqs", "none")',
        "tests/unit/test_broker_url.py::test_a_server_by_tls_is_verified_by_default_whoever_connects",
    ),
    Sabotage(
        "the embedded Redis reads no snapshot of another release's server",
        "redis-own-snapshot-name",
        '"--dbfilename", SNAPSHOT,',
        "",
        EMBEDDED + "test_it_starts_empty_whatever_server_left_a_snapshot_in_its_directory[newer-dump.rdb]",
        fails_with="redis ended with code 1",
    ),
    Sabotage(
        "the embedded Redis reads no snapshot that a user made",
        "redis-stale-snapshot-removal",
        "(directory / SNAPSHOT).unlink(missing_ok=True)\n",
        "",
        EMBEDDED + "test_after_a_crash_it_starts_empty_though_a_user_had_saved_it",
    ),
)
