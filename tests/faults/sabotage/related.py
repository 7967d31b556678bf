"""Related tables: what must not pass unseen on the way from a changed related row to the items that read it."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TABLES = "tests/integration/test_related_tables.py::"
STATEMENT = TABLES + "test_what_a_statement_on_any_table_changes_is_in_the_index"

RELATED = (
    Sabotage(
        "related tables: a moved row leaves one parent and comes to another",
        "related-both-sides",
        "(VALUES ({value_of_old}), ({value_of_new}))",
        "(VALUES ({value_of_new}))",
        STATEMENT + "[a tag moves]",
    ),
    Sabotage(
        "related tables: an error in the trigger fails no statement of the user",
        "related-error-swallowed",
        "EXCEPTION WHEN OTHERS THEN",
        "EXCEPTION WHEN division_by_zero THEN",
        TABLES + "test_a_column_that_is_gone_fails_no_writer_and_all_is_looked_at",
        fails_with="UndefinedColumn",
    ),
    Sabotage(
        "related tables: the columns of the source that join them are recorded",
        "related-join-columns",
        "joined_by(None, self.related)",
        "()",
        STATEMENT + "[another author]",
    ),
    Sabotage(
        "related tables: condition, order and onward joins are compared",
        "related-compared-columns",
        "columns_of(each, related, names) + each.condition_columns + each.order + joined_by(each, related)",
        "columns_of(each, related, names)",
        STATEMENT + "[a hidden tag is shown]",
    ),
    Sabotage(
        "related tables: another change of a value begins its pages anew",
        "related-cursor-restart",
        "cursor = NULL",
        "cursor = fan_out.cursor",
        TABLES + "test_another_change_of_the_value_begins_its_pages_anew",
    ),
    Sabotage(
        "related tables: a lock on a user's table is waited for briefly",
        "related-lock-timeout",
        '[f"{LOCK_MS}ms", f"{STEP_MS}ms"]',
        '["0", f"{STEP_MS}ms"]',
        TABLES + "test_a_locked_related_table_holds_up_its_own_source_alone",
    ),
    Sabotage(
        "related tables: what fails waits, and the others do not",
        "related-own-problem",
        'connection.execute(load("fan_out.sql")["postpone"], {"source": name})',
        "pass",
        TABLES + "test_a_locked_related_table_holds_up_its_own_source_alone",
    ),
    Sabotage(
        "related tables: a value that leads to many is followed in pages",
        "related-paged",
        "begun += fresh",
        "begun += fresh[:0]",
        TABLES + "test_a_value_that_leads_to_many_is_followed_in_pages_as_bulk",
    ),
    Sabotage(
        "related tables: no page is queued on a long backlog",
        "related-backlog",
        'if connection.execute(queries["backlog_is_long"], most).fetchone() == (True,):',
        "if False:",
        TABLES + "test_pages_wait_while_the_backlog_is_long",
    ),
    Sabotage(
        "related tables: triggers follow those of every kept generation",
        "related-generation-tables",
        "merged((*self.followed, *self.followed_by_others))",
        "merged(self.followed)",
        TABLES + "test_a_rebuild_follows_the_tables_that_it_reads_and_a_prune_lets_go_of_them",
    ),
    Sabotage(
        "related tables: those that a rebuild reads get triggers before its fill",
        "rebuild-related-triggers",
        "triggers.install(connection, active, lacking, give_up_after_s=give_up_after_s)",
        "pass",
        TABLES + "test_a_rebuild_follows_the_tables_that_it_reads_and_a_prune_lets_go_of_them",
    ),
    Sabotage(
        "related tables: reconcile waits for values whose items are to be found",
        "related-reconcile-waits",
        "OR EXISTS (SELECT FROM reindexer.fan_out WHERE fan_out.source = source.name)",
        "",
        TABLES + "test_values_that_wait_are_in_flight_for_reconcile_status_and_a_promotion",
    ),
    Sabotage(
        "related tables: a promotion waits for values whose items are to be found",
        "promote-related-lag",
        "UNION ALL SELECT source, changed_at FROM reindexer.fan_out",
        "",
        TABLES + "test_values_that_wait_are_in_flight_for_reconcile_status_and_a_promotion",
    ),
    Sabotage(
        "related tables: a plan from before does not go on with a label's former meaning",
        "related-plan-label-version",
        "sql.Literal(source.read_by)",
        'sql.Literal("")',
        TABLES + "test_a_label_of_a_relations_condition_that_changes_its_meaning_is_looked_at",
    ),
    Sabotage(
        "related tables: a kept generation that reads a table that is gone is broken",
        "generation-broken-relation",
        "(own, *related)",
        "(own,)",
        TABLES + "test_a_standby_that_reads_what_is_gone_is_broken_and_the_active_generation_is_not[its table]",
    ),
    Sabotage(
        "related tables: what a broken generation read is compared no more",
        "watch-source-anew",
        "self._look_after(connection, now)",
        "self._look_after(connection, source)",
        TABLES + "test_a_standby_that_reads_what_is_gone_is_broken_and_the_active_generation_is_not[its table]",
    ),
)
