"""Rows about sources: what their definitions say, and what happens when they change."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

AGAIN = "tests/integration/test_attach_again.py::"
ATTACH = "tests/integration/test_attach.py::"
FILE = "tests/integration/test_sources_file.py::"

SOURCES = (
    Sabotage(
        "conditions: a change of their columns is recorded",
        "reindexer/core/source.py",
        "self.text_columns + self.payload_columns + self.condition_columns",
        "self.text_columns + self.payload_columns",
        ATTACH + "test_a_row_that_leaves_the_condition_leaves_the_index_and_one_that_enters_it_enters",
    ),
    Sabotage(
        "conditions: a row that does not meet its source's is read as none",
        "reindexer/flow/read.py",
        "if source.condition else",
        "if False else",
        ATTACH + "test_a_row_that_leaves_the_condition_leaves_the_index_and_one_that_enters_it_enters",
    ),
    Sabotage(
        "definitions: another table of the same name takes the triggers along",
        "reindexer/flow/attach.py",
        "    remove(connection, source, keep=[table.oid for table in catalog.relations(connection, source)])\n",
        "",
        ATTACH + "test_a_table_that_took_the_others_name_takes_the_triggers_along",
    ),
    Sabotage(
        "definitions: what is not given stays",
        "reindexer/flow/redefine.py",
        "if before is None else _said(connection, before)",
        "if before is None else Wanted(name, _said(connection, before).table, before.text_columns)",
        AGAIN + "test_what_is_not_given_stays_as_it_was",
    ),
    Sabotage(
        "definitions: rows enter or leave the index only if that is meant",
        "reindexer/cli/redefine.py",
        "    if yes or not wanted.moved:\n",
        "    if True:\n",
        AGAIN + "test_where_rows_would_enter_or_leave_the_index_nothing_is_changed_unless_it_is_meant",
    ),
    Sabotage(
        "definitions: a source keeps its table",
        "reindexer/flow/attach.py",
        'if connection.execute(load("sources.sql")["same_table"], named).fetchone() != (True,):',
        "if False:",
        AGAIN + "test_what_can_not_be_changed_is_one_line_and_nothing_is_changed",
    ),
    Sabotage(
        "detach: what workers have in hand is waited for",
        "reindexer/flow/detach.py",
        "!= (0,) and",
        "!= (0,) and False and",
        ATTACH + "test_detach_waits_for_what_a_worker_has_in_hand",
    ),
    Sabotage(
        "detach: nobody mends meanwhile",
        "reindexer/postgres/sql/sources.sql",
        "SET paused = true, definition_hash = 'detaching'",
        "SET paused = true",
        ATTACH + "test_nobody_mends_the_triggers_of_a_source_that_is_being_detached",
    ),
    Sabotage(
        "sources file: all of it fits before the schema is touched",
        "reindexer/migrate.py",
        """        wanted = definitions(connection, file) if file else []
        _alembic(command.upgrade, url, "head")
""",
        """        _alembic(command.upgrade, url, "head")
        wanted = definitions(connection, file) if file else []
""",
        FILE + "test_a_file_that_does_not_fit_keeps_a_fresh_database_as_it_is",
    ),
    Sabotage(
        "sources file: who may not put triggers on a table is told first",
        "reindexer/sources_file/fit.py",
        "            _require_owner(connection, source)\n",
        "",
        FILE + "test_who_does_not_own_a_table_is_told_before_anything_is_changed",
    ),
    Sabotage(
        "sources file: no value of a key that looks like a secret is taken or shown",
        "reindexer/sources_file/kinds.py",
        'if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", text(value)):',
        "if not text(value):",
        "tests/unit/test_sources_file.py::test_a_mistake_is_one_line_that_names_the_line_and_says_what_to_write",
    ),
)
