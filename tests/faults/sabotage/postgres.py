"""Rows about Postgres: triggers, the bell, locks, what is on disk."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TRIGGERS = "tests/integration/test_triggers.py::"
LOCKED = "tests/faults/test_locked_tables.py::"
CONDITIONS = "tests/integration/backfills/test_conditions.py::"

TRIGGER = (
    Sabotage(
        "the bell rings while the listener sleeps",
        "wake-notify",
        "NOTIFY reindexer_bell;",
        "NULL;",
        TRIGGERS + "test_the_bell_rings_only_while_the_leader_sleeps[pg18]",
    ),
    Sabotage(
        "a writer tries the bell's lock and never waits for it",
        "wake-writer-lock",
        "NOT pg_try_advisory_xact_lock_shared({lock_class}, {wake_lock})",
        "pg_advisory_xact_lock_shared({lock_class}, {wake_lock}) IS NULL",
        "tests/faults/test_writes.py::"
        "test_a_users_statements_never_wait_for_a_drain_claim_read_request_or_settle_that_is_under_way",
        fails_with="lock timeout",
    ),
    Sabotage(
        "the bell's lock is held until the writer's commit",
        "wake-writer-lock",
        "NOT pg_try_advisory_xact_lock_shared({lock_class}, {wake_lock})",
        "NOT (CASE WHEN pg_try_advisory_lock_shared({lock_class}, {wake_lock}) THEN pg_advisory_unlock_shared({lock_class}, {wake_lock}) ELSE false END)",
        TRIGGERS + "test_the_leader_can_not_fall_asleep_between_a_writers_look_and_its_commit[pg18]",
    ),
    Sabotage(
        "the bell's timer: a listener that sleeps looks by itself",
        "timer-wake-sleep",
        "connection.notifies(timeout=SLEEP_S, stop_after=1)",
        "connection.notifies(timeout=600, stop_after=1)",
        "tests/faults/test_listener_faults.py::test_a_lost_notification_costs_the_one_second_timer_at_most",
    ),
    Sabotage(
        "triggers sit on every leaf",
        "trigger-every-leaf",
        "left = list(relations(connection, source) if tables is None else tables)",
        "left = list(relations(connection, source) if tables is None else tables)[:1]",
        TRIGGERS + "test_writes_to_a_partition_directly_and_through_its_parent_are_recorded_once[pg18]",
    ),
    Sabotage(
        "a row trigger fires for replicated rows",
        "trigger-replica-enabled",
        "ALTER TABLE {table} ENABLE REPLICA TRIGGER {replica_trigger};",
        "ALTER TABLE {table} DISABLE TRIGGER {replica_trigger};",
        TRIGGERS + "test_rows_applied_as_a_replica_are_recorded[pg18]",
    ),
    Sabotage(
        "record images are compared",
        "trigger-record-image-comparison",
        "ROW({declared_old})::record *<> ROW({declared_new})::record",
        "ROW({declared_old}) IS DISTINCT FROM ROW({declared_new})",
        TRIGGERS + "test_json_and_citext_columns_are_compared_by_their_images[pg18]",
    ),
    Sabotage(
        "keys: of two rows that are spelt anew in one statement both spellings are recorded",
        "trigger-swapped-key-spellings",
        'parts["respelt"] if spelt_freely else ""',
        '""',
        TRIGGERS + "test_two_spellings_of_a_key_that_its_collation_takes_for_one_are_two_items",
    ),
    Sabotage(
        "keys: a replicated row that is spelt anew is two items",
        "trigger-replica-key-respelling",
        'ELSIF {key_old} COLLATE "C" IS DISTINCT FROM {key_new}',
        "ELSIF {key_old} IS DISTINCT FROM {key_new}",
        TRIGGERS + "test_two_spellings_of_a_key_that_its_collation_takes_for_one_are_two_items",
    ),
    Sabotage(
        "keys: a row is read by the spelling that it has",
        "key-exact-spelling",
        '{key} COLLATE "C" = wanted.item_id',
        "{key} = wanted.item_id",
        TRIGGERS + "test_a_row_is_read_by_the_spelling_of_its_key_alone_whatever_its_collation",
    ),
    Sabotage(
        "the plan: what is compared for one row is not how many rows are joined",
        "trigger-plan-single-row",
        "FROM old_rows CROSS JOIN new_rows;\nEXCEPTION\nWHEN TOO_MANY_ROWS OR NO_DATA_FOUND THEN\n    BEGIN\n        SELECT array_agg({key}){respelt} INTO item_ids\n        FROM old_rows FULL JOIN new_rows",
        "FROM old_rows CROSS JOIN new_rows;\nRAISE TOO_MANY_ROWS;\nEXCEPTION\nWHEN TOO_MANY_ROWS OR NO_DATA_FOUND THEN\n    BEGIN\n        SELECT array_agg({key}){respelt} INTO item_ids\n        FROM old_rows JOIN new_rows",
        TRIGGERS + "test_a_large_update_after_a_one_row_update_costs_at_most_two_and_a_half_times[pg18]",
        fails_with="statement timeout",
    ),
    Sabotage(
        "a trigger's own error fails no writer",
        "trigger-error-swallowed",
        "WHEN OTHERS THEN",
        "WHEN division_by_zero THEN",
        TRIGGERS + "test_no_ddl_on_declared_columns_makes_a_write_fail_or_go_unnoticed",
        fails_with="column",
    ),
    Sabotage(
        "a writer needs no right on our schema",
        "trigger-security-definer",
        "LANGUAGE plpgsql SECURITY DEFINER ",
        "LANGUAGE plpgsql ",
        TRIGGERS + "test_a_writer_needs_no_right_on_our_schema[pg18]",
        fails_with="permission denied",
    ),
    Sabotage(
        "DDL lets writers pass",
        "trigger-ddl-lock-timeout",
        'LOCK_TIMEOUT = "800ms"',
        'LOCK_TIMEOUT = "60s"',
        TRIGGERS + "test_installing_triggers_gives_up_its_lock_while_a_transaction_holds_the_table[pg18]",
        fails_with="statement timeout",
    ),
)

WATCH = "tests/faults/test_trigger_watch.py::test_the_watch_mends_it_by_itself_and_finds_what_was_missed"
OTHERWISE = "tests/faults/test_read_otherwise.py::"

WATCHES = (
    Sabotage(
        "the watch: the listener mends triggers by itself",
        "watch-listener-trigger-repair",
        "self.look(connection)",
        "pass",
        WATCH + "[triggers disabled]",
    ),
    Sabotage(
        "the watch: what was changed and put back counts",
        "watch-trigger-version",
        "format('trigger %%s, %%s', tgname, pg_trigger.xmin)",
        "format('trigger %%s', tgname)",
        WATCH + "[triggers disabled and enabled again around a load]",
    ),
    Sabotage(
        "the watch: a type's labels count",
        "watch-enum-labels",
        "JOIN reads ON kind = 'type' AND enumtypid = reads.oid",
        "JOIN reads ON false",
        OTHERWISE + "test_what_makes_rows_read_otherwise_is_noticed_and_nothing_stays_as_it_was"
        "[an enum's label renamed]",
    ),
    Sabotage(
        "the watch: a label that had another name for a while counts",
        "watch-enum-label-version",
        "format('label %%s, %%s', pg_enum.oid, pg_enum.xmin)",
        "format('label %%s, %%s', pg_enum.oid, pg_enum.enumlabel)",
        OTHERWISE + "test_a_label_that_had_another_name_for_a_while_leaves_no_trace",
    ),
    Sabotage(
        "the watch: a composite's attributes count",
        "watch-composite-attributes",
        "JOIN pg_attribute ON attrelid = nullif(typrelid, 0) AND attnum > 0\n",
        "JOIN pg_attribute ON false\n",
        OTHERWISE + "test_what_makes_rows_read_otherwise_is_noticed_and_nothing_stays_as_it_was[an attribute renamed]",
    ),
    Sabotage(
        "the watch: casts of a type count",
        "watch-type-casts",
        "FROM pg_cast WHERE castsource = pg_type.oid",
        "FROM pg_cast WHERE false",
        OTHERWISE + "test_what_makes_rows_read_otherwise_is_noticed_and_nothing_stays_as_it_was[a cast to text]",
    ),
    Sabotage(
        "the watch: functions count that a function of the condition calls",
        "watch-nested-functions",
        "FROM pg_proc WHERE reads.kind = 'function' AND pg_proc.oid = reads.oid",
        "FROM pg_proc WHERE false",
        OTHERWISE + "test_what_makes_rows_read_otherwise_is_noticed_and_nothing_stays_as_it_was"
        "[a function replaced that this one calls]",
    ),
    Sabotage(
        "the watch: operators of the condition count",
        "watch-condition-operators",
        "strpos(body, oprname) > 0",
        "false",
        OTHERWISE + "test_what_makes_rows_read_otherwise_is_noticed_and_nothing_stays_as_it_was"
        "[an operator's function replaced]",
    ),
    Sabotage(
        "conditions: no plan is kept over a label that was renamed",
        "condition-plan-label-version",
        "sql.Literal(source.read_by)",
        'sql.Literal("")',
        OTHERWISE + "test_a_condition_means_labels_as_they_are_called_now_also_to_who_has_planned_it_before",
    ),
    Sabotage(
        "conditions: names mean what they meant where it was attached",
        "condition-resolved-names",
        "composed(source.resolved_condition or source.condition)",
        "composed(source.condition)",
        OTHERWISE + "test_a_condition_means_what_it_meant_where_it_was_attached_whatever_the_search_path_of_who_reads",
    ),
    Sabotage(
        "conditions: a name is followed only to what it meant",
        "condition-renamed-object-identity",
        "return now if same and same[0] and now.condition_columns == source.condition_columns else None",
        "return now",
        OTHERWISE + "test_a_condition_whose_words_would_now_mean_something_else_is_a_problem",
    ),
    Sabotage(
        "conditions: their literals are printed as they will be read",
        "condition-literal-format",
        "connection.execute(IN_TRANSACTION)  # a pooler's",
        "# a pooler's",
        OTHERWISE + "test_a_conditions_literals_mean_the_same_whatever_session_attaches_it",
    ),
    Sabotage(
        "conditions: one that does not work any more fails no item",
        "condition-broken-source-error",
        "require(connection, source)\nasked",
        "asked",
        OTHERWISE + "test_a_condition_that_does_not_work_any_more_is_the_sources_problem_and_fails_no_item[a label]",
    ),
    Sabotage(
        "the watch: triggers come off where a foreign table came below",
        "watch-foreign-table-detachment",
        "remove(connection, source, give_up_after_s=0)\n",
        "",
        TRIGGERS + "test_where_a_foreign_table_comes_below_the_watch_takes_the_triggers_off_and_puts_them_back"
        "_when_it_is_gone",
        fails_with="transition",
    ),
    Sabotage(
        "attach: no trigger is put above a foreign table",
        "attach-foreign-table-refusal",
        "if foreign:\n",
        "if False:\n",
        TRIGGERS + "test_a_table_with_a_foreign_one_below_is_refused_by_one_line",
    ),
    Sabotage(
        "the watch: a temporary table of some session is no part of a source",
        "watch-temporary-table-ignored",
        "WHERE relkind IN ('r', 'p', 'f') AND relpersistence <> 't'",
        "WHERE relkind IN ('r', 'p', 'f')",
        TRIGGERS + "test_a_temporary_table_below_of_some_session_is_no_part_of_a_source",
        fails_with="temporary",
    ),
    Sabotage(
        "the watch: a definition has to fit its table as long as it is followed",
        "watch-definition-fit",
        "definition.fit(connection, source)\n",
        "",
        "tests/faults/test_trigger_watch.py::test_a_key_that_is_unique_no_more_is_told_while_edits_go_on"
        "[the primary key dropped]",
    ),
    Sabotage(
        "keys: of two rows with one neither wins",
        "key-duplicate-rows-refused",
        "if item_id in rows or item_id in unreadable:\n",
        "if False:\n",
        "tests/faults/test_trigger_watch.py::"
        "test_of_two_rows_with_one_key_neither_wins_and_that_item_alone_fails_until_one_is_gone",
        fails_with="not enough values",
    ),
    Sabotage(
        "keys: two rows with one are one item of a page",
        "key-page-deduplication",
        "keys = dict.fromkeys(",
        "keys = list(",
        "tests/faults/test_trigger_watch.py::test_two_rows_of_a_tree_with_one_key_fail_as_one_item_that_is_told",
        fails_with="ON CONFLICT",
    ),
    Sabotage(
        "keys: a row without one is no item of a page",
        "key-null-row-skipped",
        'sql.SQL("t.{} IS NOT NULL").format(Name(c)) for c in source.key_columns',
        'sql.SQL("true") for c in source.key_columns',
        "tests/faults/test_trigger_watch.py::test_a_row_without_a_key_is_no_item_and_keeps_no_other_from_being_indexed",
    ),
    Sabotage(
        "the watch: a crash that emptied unlogged tables is noticed",
        "watch-unlogged-table-crash",
        "format('unlogged since %%s', (SELECT mark FROM reindexer.uncrashed))",
        "'unlogged'",
        "tests/faults/test_postgres_crash.py::test_a_crash_that_empties_an_unlogged_table_is_noticed_and_its_points_go",
    ),
    Sabotage(
        "the watch: a second crash is noticed too",
        "watch-repeated-crash",
        "catalog.mark_uncrashed(connection, source, tables)\n",
        "",
        "tests/faults/test_postgres_crash.py::test_a_crash_that_empties_an_unlogged_table_is_noticed_and_its_points_go",
    ),
    Sabotage(
        "the watch: what passed without triggers is looked for",
        "watch-untriggered-changes",
        "if look:\n",
        "if False:\n",
        WATCH + "[triggers disabled]",
    ),
)

LOCKS = (
    Sabotage(
        "ordered locks: a drain",
        "drain-lock-order",
        "ORDER BY items.source, items.item_id, generation.number\n",
        "",
        "tests/faults/test_lock_order.py::"
        "test_who_waits_for_the_first_of_many_due_rows_holds_none_of_the_others[drains]",
    ),
    Sabotage(
        "ordered locks: a request",
        "request-lock-order",
        "ORDER BY source.name, wanted.item_id\n",
        "",
        "tests/faults/test_lock_order.py::"
        "test_who_waits_for_the_first_of_many_due_rows_holds_none_of_the_others[asked]",
    ),
    Sabotage(
        "ordered locks: settling",
        "settle-lock-order",
        "ORDER BY due.source, due.item_id\nFOR UPDATE OF due\n",
        "FOR UPDATE OF due\n",
        "tests/faults/test_lock_order.py::"
        "test_who_waits_for_the_first_of_many_due_rows_holds_none_of_the_others[finishes]",
    ),
    Sabotage(
        "ordered locks: giving items back",
        "settle-lock-order",
        "ORDER BY due.source, due.item_id\nFOR UPDATE OF due\n",
        "FOR UPDATE OF due\n",
        "tests/faults/test_lock_order.py::"
        "test_who_waits_for_the_first_of_many_due_rows_holds_none_of_the_others[postpones]",
    ),
    Sabotage(
        "a locked table: a statement waits for a lock for a short time",
        "lock-timeout",
        "int(LOCK_S * 1000)",
        "0",
        LOCKED + "test_a_locked_table_stops_no_other_source_for_longer_than_the_lock_timeout[customers-8]",
    ),
    Sabotage(
        "a locked table: the error of a read is the source's, and tells the lock",
        "lock-timeout-read",
        "raise locked(source) from exc",
        "raise",
        LOCKED + "test_a_locked_table_stops_no_other_source_for_longer_than_the_lock_timeout[customers-8]",
    ),
    Sabotage(
        "a locked table: a process leaves the source alone for a while",
        "claim-source-left",
        "isinstance(error, NotThisProcess | SourceLocked)",
        "isinstance(error, NotThisProcess)",
        LOCKED + "test_a_worker_leaves_a_locked_source_alone_for_a_while",
    ),
    Sabotage(
        "a locked table: a page's time limit does not hide the lock",
        "lock-timeout-page",
        'f"{int(lock_s * 1000)}ms"',
        '"0"',
        CONDITIONS + "test_a_run_whose_table_is_locked_waits_and_its_condition_is_not_blamed",
    ),
    Sabotage(
        "a locked table: no condition is blamed for it",
        "lock-timeout-no-condition",
        "if isinstance(exc, psycopg.errors.LockNotAvailable):",
        "if False:",
        CONDITIONS + "test_a_run_whose_table_is_locked_waits_and_its_condition_is_not_blamed",
    ),
    Sabotage(
        "what a command says is done is on disk",
        "wal-session-durable",
        "ROW({ours}, {_DURABLE})",
        "ROW({ours}, 1)",
        "tests/faults/test_postgres_crash.py::"
        "test_what_a_command_says_is_done_is_on_disk_whatever_the_server_is_set_to",
    ),
    Sabotage(
        "a claim is on disk before anybody works on it",
        "wal-claim-durable",
        "set_config('synchronous_commit', 'on', true)",
        "set_config('synchronous_commit', 'off', true)",
        "tests/faults/test_postgres_crash.py::"
        "test_a_claim_is_on_disk_before_anybody_works_on_it_whatever_the_server_is_set_to",
    ),
    Sabotage(
        "a standby is refused",
        "standby-refusal",
        "if in_recovery:\n",
        "if False:\n",
        "tests/faults/test_postgres_crash.py::test_a_standby_is_refused",
    ),
    Sabotage(
        "no row on a standby is no deletion",
        "standby-missing-row-error",
        "if in_recovery:\n",
        "if False:\n",
        "tests/faults/test_standby.py::test_a_row_that_a_standby_does_not_have_is_never_read_as_deleted",
    ),
)
