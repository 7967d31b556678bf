"""Rows about sources: what their definitions say, and what happens when they change."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

AGAIN = "tests/integration/test_attach_again.py::"
NAMESAKE = "tests/integration/test_role_named_reindexer.py::"
BROKEN = "tests/faults/test_broken_sources.py::"
BUILT_IN = "tests/integration/test_built_in.py::"
ATTACH = "tests/integration/test_attach.py::"
FILE = "tests/integration/test_sources_file.py::"
DOCUMENT = "tests/integration/test_definition_document.py::"
NEWER = DOCUMENT + "test_a_source_that_a_newer_version_defined_is_"

SOURCES = (
    Sabotage(
        "conditions: a change of their columns is recorded",
        "condition-columns-recorded",
        "read + self.condition_columns + joined",
        "read + joined",
        ATTACH + "test_a_row_that_leaves_the_condition_leaves_the_index_and_one_that_enters_it_enters",
    ),
    Sabotage(
        "conditions: a row that does not meet its source's is read as none",
        "condition-unmet-row-absent",
        "if source.condition else",
        "if False else",
        ATTACH + "test_a_row_that_leaves_the_condition_leaves_the_index_and_one_that_enters_it_enters",
    ),
    Sabotage(
        "definitions: another table of the same name takes the triggers along",
        "attach-replaced-table-cleanup",
        "remove(connection, source, keep=[table.oid for table in catalog.relations(connection, source)])\n",
        "",
        ATTACH + "test_a_table_that_took_the_others_name_takes_the_triggers_along",
    ),
    Sabotage(
        "the Python API: rows enter or leave the index only where that is allowed",
        "client-row-moves",
        "change.require_no_moves(wanted)\n",
        "pass\n",
        "tests/integration/test_client.py::test_attach_changes_what_is_given_and_moves_no_rows_unless_that_is_allowed",
    ),
    Sabotage(
        "the Python API: whatever it raises is an error of the tree",
        "client-error-tree",
        "except psycopg.Error as exc:\n",
        "except ZeroDivisionError as exc:\n",
        "tests/integration/test_client.py::test_whatever_is_raised_is_an_error_of_the_tree",
        fails_with="UndefinedTable",
    ),
    Sabotage(
        "definitions: what is not given stays",
        "definition-omitted-values-kept",
        "if before is None else _said(connection, before)",
        "if before is None else Wanted(name, _said(connection, before).table, before.text_columns)",
        AGAIN + "test_what_is_not_given_stays_as_it_was",
    ),
    Sabotage(
        "definitions: rows enter or leave the index only if that is meant",
        "definition-confirm-row-moves",
        "if yes or not wanted.moved:\n",
        "if True:\n",
        AGAIN + "test_where_rows_would_enter_or_leave_the_index_nothing_is_changed_unless_it_is_meant",
    ),
    Sabotage(
        "definitions: a source keeps its table",
        "attach-source-table-fixed",
        "if row is None or row[:2] == (schema, table) or row[2]:",
        "if True:",
        AGAIN + "test_what_can_not_be_changed_is_one_line_and_nothing_is_changed",
    ),
    Sabotage(
        "context_items: nobody gets it unasked",
        "context-items-opt-in",
        "if there == (True, True) or (wanted and (there is None or there[0])) else None",
        "",
        BUILT_IN + "test_migrate_leaves_the_users_schema_alone",
    ),
    Sabotage(
        "context_items: what was detached stays detached",
        "context-items-detached",
        "INSERT INTO reindexer.detached (source) VALUES (%(name)s) ON CONFLICT DO NOTHING",
        "SELECT 1",
        BUILT_IN + "test_it_is_detached_as_any_source_and_stays_detached",
    ),
    Sabotage(
        "a role named like our schema: no schema is made to which its tables would go",
        "role-schema-creation-refusal",
        "if revision(connection) is None and (danger := trap(connection)) and danger.is_us:",
        "if False:",
        NAMESAKE + "test_migrate_refuses_to_make_a_schema_to_which_the_roles_own_tables_would_go",
    ),
    Sabotage(
        "a role named like our schema: no table is found by a path that leads there",
        "role-schema-table-lookup",
        "WHERE relname = %(name)s AND nspname <> 'reindexer' ORDER BY place LIMIT 1;",
        "WHERE relname = %(name)s ORDER BY place LIMIT 1;",
        NAMESAKE + "test_a_table_in_our_schema_is_never_found_by_its_name_alone",
    ),
    Sabotage(
        "uninstall: what is not ours stays",
        "uninstall-own-routines-only",
        "\n    AND prorettype = 'trigger'::regtype AND proname ~ '_(rows|update|whole|replica)$' AND prosrc LIKE '%reindexer.outbox%'",
        "",
        NAMESAKE + "test_uninstall_takes_what_is_ours_and_tells_what_else_lies_in_the_schema",
    ),
    Sabotage(
        "broken sources: they keep none of the file from being attached",
        "sources-file-broken-source",
        "if broken := name in before and _breakage(connection, before[name]):",
        "if broken := None:",
        BROKEN + "test_migrate_attaches_the_others_of_the_file_and_tells_which_one_is_broken",
    ),
    Sabotage(
        "broken sources: the others are ready",
        "readiness-broken-source-tolerance",
        "if not state.startswith(OK))",
        "if state != OK)",
        BROKEN + "test_processes_are_ready_for_the_others_and_work_on_them",
    ),
    Sabotage(
        "broken sources: a schema that may not be used is the source's problem",
        "source-schema-privilege-error",
        'except psycopg.errors.InsufficientPrivilege as exc:\n    raise SourceError(f"{about}: {one_line(exc)}") from None\nfound',
        "found",
        BROKEN + "test_a_source_whose_schema_may_not_be_used_is_told_and_the_others_are_worked_on_and_watched",
        fails_with="permission denied for schema shop",
    ),
    Sabotage(
        "detach: what workers have in hand is waited for",
        "detach-held-items-wait",
        "!= (0,) and",
        "!= (0,) and False and",
        ATTACH + "test_detach_waits_for_what_a_worker_has_in_hand",
    ),
    Sabotage(
        "detach: nobody mends meanwhile",
        "detach-no-repair",
        "SET paused = true, definition_hash = 'detaching'",
        "SET paused = true",
        ATTACH + "test_nobody_mends_the_triggers_of_a_source_that_is_being_detached",
    ),
    Sabotage(
        "definitions: what a newer version says is not passed over",
        "definition-unknown-attribute",
        "if unknown := document.keys() - {each.name for each in fields(cls)}:",
        "document = {key: document[key] for key in document if key in {each.name for each in fields(cls)}}\n"
        "if unknown := set[str]():",
        NEWER + "neither_worked_on_nor_changed_and_the_others_go_on",
    ),
    Sabotage(
        "definitions: one of a newer version does not stop the others",
        "definition-newer-source-skipped",
        "except NewerDefinition:",
        "except ZeroDivisionError:",
        DOCUMENT + "test_whoever_lists_sources_leaves_out_what_a_newer_version_defined",
    ),
    Sabotage(
        "definitions: an older version's migrate leaves a newer one's alone",
        "definition-newer-migrate-refusal",
        "attached_before(connection)\n",
        "",
        NEWER + "neither_worked_on_nor_changed_and_the_others_go_on",
    ),
    Sabotage(
        "definitions: an upgrade carries all of them over",
        "definition-carried-over",
        "|| CASE WHEN profile = '{}' THEN '{}' ELSE jsonb_build_object('profile', profile) END;",
        ";",
        DOCUMENT + "test_the_migration_carries_every_definition_over_both_ways",
    ),
    Sabotage(
        "definitions: a process of the version before reads on",
        "definition-readable-by-older",
        "GENERATED ALWAYS AS (coalesce(definition -> 'profile', '{}')) STORED",
        "NOT NULL DEFAULT '{}'",
        DOCUMENT + "test_a_process_of_the_version_before_reads_the_columns_that_it_knows",
    ),
    Sabotage(
        "sources file: all of it fits before the schema is touched",
        "sources-file-pre-check",
        "wanted = definitions(connection, file, strict=strict)\n",
        '_alembic(command.upgrade, url, "head")\nwanted = definitions(connection, file, strict=strict)\n',
        FILE + "test_a_file_that_does_not_fit_keeps_a_fresh_database_as_it_is",
    ),
    Sabotage(
        "sources file: who may not put triggers on a table is told first",
        "sources-file-table-owner",
        "_require_owner(connection, source)\n",
        "",
        FILE + "test_who_does_not_own_a_table_is_told_before_anything_is_changed",
    ),
    Sabotage(
        "sources file: no value of a key that looks like a secret is taken or shown",
        "secret-sources-file-value",
        'if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", text(value)):',
        "if not text(value):",
        "tests/unit/test_sources_file.py::test_a_mistake_is_one_line_that_names_the_line_and_says_what_to_write",
    ),
)
