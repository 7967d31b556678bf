"""Rows about the page."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

_FILE = "tests/security/test_page.py"

PAGE = (
    Sabotage(
        "only what we signed is a login",
        "session-signed",
        "if not same(signature.encode(), self._signature(facts).encode()):",
        "if not signature:",
        f"{_FILE}::test_a_cookie_that_was_changed_or_made_elsewhere_is_refused",
    ),
    Sabotage(
        "a login ends",
        "session-ends",
        "if time.time() >= int(ends_at) or session_id in self._ended:",
        "if False:",
        f"{_FILE}::test_a_login_ends_by_itself",
    ),
    Sabotage(
        "the page names itself",
        "session-page-header",
        "if PAGE_HEADER not in headers:",
        "if False:",
        f"{_FILE}::test_no_page_of_another_origin_changes_anything_by_the_cookie[{{'Sec-Fetch-Site': 'same-origin'}}]",
    ),
    Sabotage(
        "what a browser tells of the site decides",
        "session-same-origin",
        'return fetched_by == "same-origin"',
        'return fetched_by != "cross-site"',
        f"{_FILE}::test_no_page_of_another_origin_changes_anything_by_the_cookie[{{'X-Reindexer-Page': '1', 'Sec-Fetch-Site': 'same-site'}}]",
    ),
    Sabotage(
        "else the origin decides",
        "session-origin",
        'return urlsplit(headers.get("Origin", "")).netloc == headers.get("Host")',
        "return True",
        f"{_FILE}::test_no_page_of_another_origin_changes_anything_by_the_cookie[{{'X-Reindexer-Page': '1', 'Origin': 'http://evil.example'}}]",
    ),
    Sabotage(
        "a login is worth its key",
        "session-key-looked-up",
        "return await parts.keys.find_hash(session.key_hash)",
        "return _EVERYTHING",
        f"{_FILE}::test_a_login_allows_what_its_key_does_and_no_more",
    ),
    Sabotage(
        "a page of another origin logs nobody in",
        "login-from-page",
        "if not is_from_page(request.method, request.headers):",
        "if False:",
        f"{_FILE}::test_no_page_of_another_origin_changes_anything_by_the_cookie[{{}}]",
    ),
    Sabotage(
        "a stream ends with its login",
        "stream-ends-with-login",
        "if session_of(parts, request) is None:",
        "if False:",
        f"{_FILE}::test_a_stream_ends_with_its_login_with_its_key_and_with_the_server",
    ),
    Sabotage(
        "a stream ends with its key",
        "stream-ends-with-key",
        "return access is not None and _operates(access)",
        "return True",
        f"{_FILE}::test_a_stream_ends_with_its_login_with_its_key_and_with_the_server",
    ),
    Sabotage(
        "a stream ends with the server",
        "stream-ends-with-server",
        "while not ending.is_set():",
        "while True:",
        f"{_FILE}::test_a_stream_ends_with_its_login_with_its_key_and_with_the_server",
    ),
    Sabotage(
        "a server that was restarted is no server that is away",
        "kept-connection-restarted",
        "if not kept.broken:",
        "if True:",
        "tests/integration/test_kept_connection.py::test_a_server_that_was_restarted_is_asked_again_at_once",
        fails_with="AdminShutdown",
    ),
    Sabotage(
        "a comparison that nobody reads stops",
        "comparison-stops-with-client",
        "if self.stopped.is_set():",
        "if False:",
        "tests/integration/test_reconcile_route.py::test_one_comparison_runs_at_a_time_and_stops_when_nobody_listens_or_the_server_ends",
    ),
    Sabotage(
        "one comparison at a time",
        "comparison-one-at-a-time",
        "if not self._free.acquire(blocking=False):",
        "if False:",
        "tests/integration/test_reconcile_route.py::test_one_comparison_runs_at_a_time_and_stops_when_nobody_listens_or_the_server_ends",
    ),
    Sabotage(
        "an operator does not raise the limit of deletions",
        "reconcile-limit-admin",
        'if body.max_deletions is not None and access.role != "admin":',
        "if False:",
        "tests/integration/test_reconcile_route.py::test_many_deletions_are_refused_with_what_was_found_and_an_operator_raises_no_limit",
    ),
    Sabotage(
        "another generation is searched by administrators alone",
        "search-generation-admin",
        'if body.generation is not None and access.role != "admin":',
        "if False:",
        "tests/integration/generations/test_search_beside.py::test_an_administrator_searches_another_generation_and_nobody_else_does",
    ),
)
