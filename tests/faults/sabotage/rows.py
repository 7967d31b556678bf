"""Rows about what is read of a row: the same whatever a session is set to, and no row that keeps others from being read."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SETTINGS = "tests/faults/test_server_settings.py::"

SESSIONS = (
    Sabotage(
        "settings: a session of ours reads as every other of ours",
        "session-uniform-read-settings",
        "connection.execute(opening(pid, connection.info.server_version), prepare=False)",
        'connection.execute("SELECT pg_backend_pid()")',
        SETTINGS + "test_a_row_reads_the_same_whatever_a_session_is_set_to[of the role]",
    ),
    Sabotage(
        "settings: behind a pooler rows are read in a transaction with ours",
        "session-pooler-read-settings",
        "if not reads_as_ours:",
        "if False:",
        SETTINGS + "test_behind_a_pooler_a_row_reads_the_same_and_what_can_not_be_helped_is_told_in_one_line",
    ),
    Sabotage(
        "settings: what a pooler keeps us from setting is told",
        "session-pooler-settings-check",
        "require_settings(connection)\n",
        "",
        SETTINGS + "test_behind_a_pooler_a_row_reads_the_same_and_what_can_not_be_helped_is_told_in_one_line",
    ),
    Sabotage(
        "settings: no time is read as another session prints it",
        "session-binary-time-format",
        "connection.cursor_factory = _BinaryCursor\n",
        "",
        SETTINGS + "test_behind_a_pooler_a_row_reads_the_same_and_what_can_not_be_helped_is_told_in_one_line",
    ),
    Sabotage(
        "settings: text comes as UTF-8",
        "session-utf8-encoding",
        ', "client_encoding": "UTF8"}',
        "}",
        SETTINGS + "test_a_row_reads_the_same_whatever_the_environment_says[PGCLIENTENCODING]",
        fails_with="bytes-like",
    ),
    Sabotage(
        "settings: an upgrade looks at what read otherwise",
        "upgrade-reread-differing-sources",
        "SELECT name, 'whole_source' FROM differs\n",
        "SELECT name, 'whole_source' FROM differs WHERE false\n",
        SETTINGS + "test_an_upgrade_looks_once_at_what_read_otherwise_before",
    ),
)

ODD = "tests/faults/test_odd_rows.py::"

ODD_ROWS = (
    Sabotage(
        "rows: whatever error one of them raises, the others are read without it",
        "row-error-isolation",
        "if connection.closed or not may_be_of_a_row(exc):",
        "if connection.closed or not isinstance(exc, psycopg.DataError | psycopg.ProgrammingError):",
        ODD + "test_a_row_that_fails_when_it_is_read_fails_alone_whatever_the_error[DataCorrupted]",
    ),
    Sabotage(
        "rows: what fails within a function is one row's, where others can be read",
        "row-function-error-isolation",
        "(not item_ids or not _can_be_asked(connection, source, query)):",
        "True:",
        ODD + "test_a_row_that_fails_when_it_is_read_fails_alone_whatever_the_error[UndefinedTable]",
    ),
    Sabotage(
        "rows: what fails for all of them is the source's",
        "row-common-failure-source",
        "if not rows and failures and all(",
        "if False and all(",
        ODD + "test_a_function_that_fails_for_every_row_is_the_sources_problem_and_blames_no_item",
    ),
    Sabotage(
        "rows: a payload is parsed for each by itself",
        "row-payload-parse-isolation",
        "except UnfitPayload as exc:\n    return Unreadable(str(exc))\n",
        "except ZeroDivisionError:\n    raise\n",
        ODD + "test_a_value_that_no_payload_can_hold_fails_alone_with_the_reason[a number of 5,000 digits]",
    ),
    Sabotage(
        "rows: a number that Qdrant can't keep is found before it is asked",
        "payload-number-range",
        "if _LONG_NUMBER.search(text) and",
        "if False and",
        ODD + "test_a_value_that_no_payload_can_hold_fails_alone_with_the_reason[a number of 400 digits]",
    ),
)

LONG = "tests/faults/test_long_keys.py::"
OF_A_LONG_KEY = LONG + "test_a_row_of_a_long_key_goes_by_a_name_from_its_first_text_to_its_deletion[rough]"

LONG_KEYS = (
    Sabotage(
        "long keys: a drain calls them by a name",
        "long-key-drain-name",
        "CASE WHEN octet_length(item_id) > 650 AND outbox.related IS NULL THEN reindexer.noted_name(outbox.source, item_id) ELSE item_id END AS item_id",
        "item_id",
        OF_A_LONG_KEY,
        fails_with="index row size",
    ),
    Sabotage(
        "long keys: a walk calls them by a name",
        "long-key-walk-name",
        "long_keys.names(connection, source, list(keys))",
        "list(keys)",
        OF_A_LONG_KEY,
        fails_with="index row size",
    ),
    Sabotage(
        "long keys: a row is read by the key that its name stands for",
        "long-key-read",
        "batches = [[keys.get(item_id, item_id) for item_id in dict.fromkeys(item_ids) if not is_too_long(item_id)]]",
        "batches = [list(item_ids)]",
        OF_A_LONG_KEY,
    ),
    Sabotage(
        "long keys: what was indexed under the key itself goes",
        "long-key-read",
        " for item_id in dict.fromkeys(item_ids) if not is_too_long(item_id)]]",
        " for item_id in dict.fromkeys(item_ids)]]",
        LONG + "test_an_upgrade_brings_what_fitted_until_now_under_its_name",
    ),
)
