"""Rows about keys of the API that allow less."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

_FILE = "tests/security/test_keys.py"

KEYS = (
    Sabotage(
        "how rare a word is counts among a key's own rows",
        "keywords-own-corpus",
        "if terms.corpus:",
        "if False:",
        "tests/security/test_keys_property.py::test_scores_under_a_keys_filter_do_not_depend_on_foreign_rows",
    ),
    Sabotage(
        "a server that can't count so is not asked",
        "keywords-corpus-server",
        "_numbers(version) < (1, 19)",
        "False",
        "tests/contract/test_index.py::test_an_older_server_refuses_what_it_can_not_keep_of_keywords",
    ),
    Sabotage(
        "a key's filter holds for what is like an item, too",
        "key-forced-filter-similar",
        "(*forced, *fitting_filter(there, filter_of))",
        "fitting_filter(there, filter_of)",
        "tests/security/test_keys_property.py::test_no_request_by_a_key_with_a_filter_returns_a_foreign_row[closed-some]",
    ),
    Sabotage(
        "a key's filter stands beside the request's",
        "key-forced-filter",
        "(*forced, *fitting_filter(there, filter_of))",
        "fitting_filter(there, filter_of)",
        "tests/security/test_keys_property.py::test_no_request_by_a_key_with_a_filter_returns_a_foreign_row[closed-some]",
    ),
    Sabotage(
        "what a key allows is asked anew within 5 s",
        "key-cache-bounded",
        "return now < self.asked_at + keep_s",
        "return now < self.asked_at + 60",
        f"{_FILE}::test_a_revoked_key_ends_in_every_process_within_five_seconds",
    ),
    Sabotage(
        "what a key allows is asked again if the answer came late",
        "key-answer-late",
        "if isinstance(answer.found, Exception) or answer.serves(now):",
        "if True:",
        f"{_FILE}::test_an_answer_of_postgres_that_comes_late_lets_nobody_in",
    ),
    Sabotage(
        "all of a key is hashed",
        "key-hash-whole",
        "return sha256(key.encode()).digest()",
        "return sha256(key[:20].encode()).digest()",
        f"{_FILE}::test_each_key_is_found_by_the_whole_of_it",
    ),
    Sabotage(
        "a key is looked up by its hash",
        "key-hash",
        "WHERE hash = %(hash)s",
        "WHERE hash <> '' OR hash = %(hash)s",
        f"{_FILE}::test_each_key_is_found_by_the_whole_of_it",
    ),
    Sabotage(
        "a revoked key is no key",
        "key-revoked",
        "AND revoked_at IS NULL",
        "AND true",
        f"{_FILE}::test_a_live_keys_name_is_taken_and_free_again_when_it_has_ended",
    ),
    Sabotage(
        "an expired key is no key",
        "key-expired",
        "AND coalesce(expires_at > clock_timestamp(), true);",
        "AND true;",
        f"{_FILE}::test_a_live_keys_name_is_taken_and_free_again_when_it_has_ended",
    ),
    Sabotage(
        "a key that is kept ends when it expires",
        "key-expires-while-kept",
        "if found is None or (found.left_s is not None and now >= self.asked_at + found.left_s):",
        "if found is None:",
        f"{_FILE}::test_a_key_ends_when_it_expires_although_it_is_kept",
    ),
    Sabotage(
        "a role allows its routes alone",
        "key-role",
        "return role in RIGHTS.get(operation, frozenset())",
        "return True",
        f"{_FILE}::test_each_route_is_decided_for_each_role_and_does_as_it_is_decided",
    ),
    Sabotage(
        "a key that searches sees no address and no table",
        "key-sees-no-internals",
        "if status >= HTTPStatus.INTERNAL_SERVER_ERROR and _only_searches(request):",
        "if False:",
        f"{_FILE}::test_a_key_that_searches_is_not_told_where_the_servers_are_nor_what_the_table_is_like",
    ),
    Sabotage(
        "a condition of a backfill needs the role admin",
        "key-condition-admin",
        'if body.where is not None and access.role != "admin":',
        "if False:",
        f"{_FILE}::test_a_condition_of_a_backfill_needs_the_role_admin",
    ),
    Sabotage(
        "a key searches its source alone",
        "key-source",
        "if name != access.source:",
        "if False:",
        f"{_FILE}::test_another_source_is_unknown_to_a_search_key_whether_it_is_there_or_not",
    ),
    Sabotage(
        "access closes with the column of a key's filter",
        "key-column-gone",
        "except UsageError as exc:\n"
        '    raise HTTPException(403, f"this key finds nothing any more: {exc}; ask for another key") from exc\n',
        "except UsageError:\n    return ()\n",
        f"{_FILE}::test_access_closes_with_its_column[ALTER TABLE notes DROP COLUMN tenant]",
    ),
    Sabotage(
        "an open search heeds a key that is given",
        "key-heeded-while-open",
        "return not unless(settings) or (heeds_keys and bool(given))",
        "return not unless(settings)",
        f"{_FILE}::test_an_open_search_is_narrowed_by_a_key_and_refuses_a_wrong_one",
    ),
    Sabotage(
        "a filter tells large integers apart that are one double",
        "filter-large-integer",
        "if isinstance(value, str | bool) or (isinstance(value, int) and abs(value) >= _SAME_DOUBLE):",
        "if isinstance(value, str | bool):",
        "tests/contract/test_index.py::TestQdrantIndex::test_a_search_finds_what_the_filter_lets_through",
    ),
    Sabotage(
        "the audit names the key",
        "audit-key-name",
        'who += f" key {access.name}"',
        'who += ""',
        f"{_FILE}::test_making_and_revoking_a_key_and_what_it_does_are_in_the_audit",
    ),
    Sabotage(
        "the API's role of an older version may read keys",
        "key-grant-api",
        "EXECUTE format('GRANT SELECT ON reindexer.api_key TO %s', granted.role);",
        "NULL;",
        "tests/integration/test_keys.py::test_the_apis_role_of_the_version_before_may_read_keys_and_no_other_role_may",
    ),
)
