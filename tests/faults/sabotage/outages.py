"""Rows about the listener, the broker and Postgres going away."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

LISTENER = "tests/faults/test_listener_faults.py::"
BROKER = "tests/faults/test_broker_faults.py::"
POSTGRES = "tests/faults/test_postgres_faults.py::"

OUTAGES = (
    Sabotage(
        "a statement has a time: a connection that leads nowhere is left",
        "session-dead-connection-timeout",
        "elif time.monotonic() > until:",
        "elif False:",
        LISTENER + "test_a_half_open_listener_notices_and_leads_again",
    ),
    Sabotage(
        "a silent leader is put down",
        "leader-silent-termination",
        "state_change < clock_timestamp()",
        "state_change < clock_timestamp() - interval '1 day'",
        LISTENER + "test_a_stopped_leader_is_put_down_by_the_standby_and_stands_by_when_it_goes_on",
    ),
    Sabotage(
        "the statement of a killed leader ends",
        "session-killed-leader-statement",
        'ours["client_connection_check_interval"] = "2s"',
        'ours["client_connection_check_interval"] = "0"',
        LISTENER + "test_a_leader_that_is_killed_in_a_long_statement_does_not_keep_leading",
    ),
    Sabotage(
        "the bell's echo comes from another connection",
        "wake-echo-other-connection",
        "with connect() as other:\n    other.execute(",
        "with connect():\n    connection.execute(",
        LISTENER + "test_behind_a_pooler_the_listener_says_so_and_looks_by_itself",
    ),
    Sabotage(
        "signals are heard whatever the listener hangs in",
        "signal-hung-listener",
        "told.recv(1)\nstop.set()\nthread.join(STOP_S)\n",
        "thread.join()\n",
        LISTENER + "test_sigterm_ends_the_listener_within_five_seconds[stalled]",
    ),
    Sabotage(
        "who only sends waits briefly for a broker that says nothing",
        "broker-send-timeout",
        "SEND_TIMEOUT_S = 2\n",
        "SEND_TIMEOUT_S = 30\n",
        BROKER + "test_a_broker_that_is_away_while_changes_are_drained_holds_up_no_drain_for_long[stall]",
    ),
    Sabotage(
        "a worker leaves a connection to the broker that leads nowhere",
        "broker-health-check",
        '"health_check_interval": 10,',
        '"health_check_interval": 600,',
        BROKER + "test_a_worker_whose_connection_for_messages_alone_leads_nowhere_makes_it_anew",
    ),
    Sabotage(
        "requests are not locked while their messages are sent",
        "request-send-without-lock",
        'taken = connection.execute(queries["take_unsent"]',
        'connection.execute("BEGIN")\ntaken = connection.execute(queries["take_unsent"]',
        BROKER + "test_who_settles_an_item_never_waits_for_the_broker_that_its_request_is_being_sent_to",
        fails_with="lock timeout",
    ),
    Sabotage(
        "asked that the broker did not take are given back",
        "request-unsent-returned",
        "if left := [task_id",
        "if left := [] and [task_id",
        BROKER + "test_requests_that_the_broker_did_not_take_are_sent_when_it_is_back",
    ),
    Sabotage(
        "a crash: what was read is settled only if no commit can have been lost since the claim",
        "settle-same-server-only",
        "WHERE server.same AND due.token",
        "WHERE due.token",
        POSTGRES + "test_a_text_that_a_crash_took_back_after_it_was_read_does_not_stay_indexed",
    ),
    Sabotage(
        "a request is on disk before its task id is told",
        "wal-request-durable",
        "RETURNING task_id, set_config('synchronous_commit', 'on', true);",
        "RETURNING task_id, set_config('synchronous_commit', 'off', true);",
        "tests/faults/test_postgres_crash.py::"
        "test_a_request_is_on_disk_before_its_task_id_is_told_whatever_the_server_is_set_to",
    ),
    Sabotage(
        "settling is tried again while Postgres fails",
        "settle-postgres-retry",
        "time.sleep(deadline.cap(PAUSE_S))",
        "raise LeaseExpired",
        POSTGRES + "test_a_deadlock_with_a_user_who_locks_our_rows_costs_a_second_try",
    ),
    Sabotage(
        "isolation is ours, whatever the database's default is",
        "session-read-committed",
        '"default_transaction_isolation": "read committed",\n',
        "",
        POSTGRES + "test_defaults_of_database_and_role_do_not_concern_us[repeatable read]",
    ),
    Sabotage(
        "a request that meets no Postgres is sent again",
        "request-postgres-outage-retry",
        "except TransientError as exc:\n    log.warning(",
        "except ZeroDivisionError as exc:\n    log.warning(",
        POSTGRES + "test_a_request_whose_message_runs_while_postgres_is_away_is_not_failed_but_fulfilled",
    ),
)
