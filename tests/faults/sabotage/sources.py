"""Rows about sources: what their definitions say, and what happens when they change."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

ATTACH = "tests/integration/test_attach.py::"

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
        "definitions: another table takes the triggers along",
        "reindexer/flow/attach.py",
        "    remove(connection, source, keep=[table.oid for table in catalog.relations(connection, source)])\n",
        "",
        ATTACH + "test_another_table_takes_the_triggers_along",
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
)
