"""Rows about security."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SECRETS = (
    Sabotage(
        "trigger functions' bodies are literals",
        "trigger-body-literal",
        "sql.Literal(self.body)",
        'sql.SQL("$reindexer$" + self.body + "$reindexer$")',
        "tests/security/test_identifiers.py::test_a_table_whose_schema_name_and_columns_have_any_name_is_kept_indexed",
        fails_with="syntax error",
    ),
    Sabotage(
        "a % in a name is no placeholder",
        "sql-percent-escape",
        '.replace(b"%", b"%%")',
        "",
        "tests/security/test_identifiers.py::test_a_table_whose_schema_name_and_columns_have_any_name_is_kept_indexed",
        fails_with="placeholder",
    ),
    Sabotage(
        "the key is asked for",
        "api-key-required",
        "access = await access_of(parts, request)",
        "access = _EVERYTHING",
        "tests/security/test_closed.py::test_every_route_but_health_is_closed_without_the_key_and_with_a_wrong_one",
    ),
    Sabotage(
        "the key is compared in constant time",
        "api-key-constant-time",
        "return compare_digest(given, wanted)",
        "return given == wanted",
        "tests/security/test_closed.py::test_the_key_is_compared_in_constant_time",
    ),
    Sabotage(
        "a body that drips is given up",
        "api-dripping-body-timeout",
        "async with asyncio.timeout_at(until):",
        "async with asyncio.timeout_at(None):",
        "tests/security/test_hostile_requests.py::"
        "test_a_body_that_drips_is_answered_408_and_one_that_is_complete_is_not_hurried",
    ),
    Sabotage(
        "text that Postgres can't store is refused",
        "api-nul-character-refusal",
        'if "\\x00" in text:\n',
        "if False:\n",
        "tests/security/test_hostile_requests.py::test_no_body_is_a_server_error",
    ),
    Sabotage(
        "only JSON is taken from the queues",
        "broker-json-only",
        'accept_content=["json"],\nresult_accept',
        'accept_content=["json", "pickle"],\nresult_accept',
        "tests/security/test_messages.py::test_a_pickled_message_is_refused_unread_and_the_worker_goes_on[solo]",
    ),
    Sabotage(
        "errors that may quote a row are told by their name",
        "secret-row-error-text",
        "exc.sqlstate[:2] not in _TOLD",
        'exc.sqlstate == "none"',
        "tests/security/test_canaries.py::test_no_text_and_no_secret_is_found_where_it_does_not_belong",
    ),
    Sabotage(
        "unexpected errors of a task are told by type and place",
        "secret-task-error-text",
        "except Exception as exc:  # noqa: BLE001\n",
        "except ZeroDivisionError as exc:\n",
        "tests/security/test_canaries.py::test_no_text_and_no_secret_is_found_where_it_does_not_belong",
    ),
    Sabotage(
        "only our own loggers talk below WARNING",
        "log-own-loggers-only",
        "handler.addFilter(_may_talk)\n",
        "",
        "tests/unit/test_logs.py::test_only_our_own_loggers_and_those_of_celery_and_uvicorn_talk_below_warning",
    ),
    Sabotage(
        "a password that makes a URL unreadable is refused before it is told",
        "secret-unreadable-url",
        'if parts is None or "@" in (parts["rest"] or ""):\n    return False\n',
        "return True\n",
        "tests/security/test_canaries.py::test_a_wrong_password_or_one_that_makes_a_url_unreadable_is_not_told",
    ),
)
