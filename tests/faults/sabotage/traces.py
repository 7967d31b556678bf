"""Rows about traces: whom they are told, and that nobody waits for a collector."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_traces.py::"
UNIT = "tests/unit/test_trace.py::"

TRACES = (
    Sabotage(
        "traces: what its writer does not record is not told",
        "trace-unsampled",
        "& _SAMPLED",
        "| _SAMPLED",
        UNIT + "test_a_traceparent_names_a_place_only_if_it_is_one_and_is_recorded",
    ),
    Sabotage(
        "traces: the standard variables switch them off",
        "trace-switched-off",
        'given.get("OTEL_SDK_DISABLED", "").lower() == "true"',
        "False",
        UNIT + "test_the_standard_variables_decide_and_what_can_not_be_had_is_one_line",
    ),
    Sabotage(
        "traces: an application's provider is used",
        "trace-foreign-provider",
        "return _of_application() or _own.get()",
        "return _own.get()",
        TESTS + "test_the_provider_of_an_application_is_used_and_never_replaced",
    ),
    Sabotage(
        "traces: the library's lines about a collector, with its address, are not logged",
        "trace-quiet-collector",
        ".setLevel(logging.CRITICAL)",
        "",
        TESTS + "test_a_collector_that_hangs_or_is_dead_delays_neither_edits_nor_the_end_of_a_process",
    ),
    Sabotage(
        "traces: a process that ends does not wait for a collector",
        "trace-hanging-collector",
        "ending.join(CLOSE_S)",
        "ending.join()",
        TESTS + "test_a_collector_that_hangs_or_is_dead_delays_neither_edits_nor_the_end_of_a_process",
    ),
    Sabotage(
        "traces: the steps of a claim are bounded",
        "trace-bounded-parts",
        "if len(self.parts) > MAX_PARTS:",
        "if False:",
        UNIT + "test_the_first_and_the_last_steps_of_a_long_claim_are_kept",
    ),
    Sabotage(
        "traces: so are the traces that it is told in",
        "trace-bounded-traces",
        "[:MAX_TRACES]",
        "",
        TESTS + "test_of_many_marks_some_are_told_and_the_others_counted",
    ),
    Sabotage(
        "traces: an edit is told with the claim that reads it",
        "trace-own-claim",
        "CASE WHEN due.lease_until IS NOT NULL THEN (due.later_traces || excluded.traces)",
        "CASE WHEN false THEN (due.later_traces || excluded.traces)",
        TESTS + "test_a_later_edit_of_a_claimed_item_is_told_with_the_claim_that_reads_it",
    ),
    Sabotage(
        "traces: an edit is told once, unless it is tried again",
        "trace-told-once",
        "traces = due.later_traces,",
        "",
        TESTS + "test_a_later_edit_of_a_claimed_item_is_told_with_the_claim_that_reads_it",
    ),
    Sabotage(
        "traces: a long text is not kept in the place of a traceparent",
        "trace-bounded-text",
        "IF octet_length($2) BETWEEN 55 AND 512 THEN",
        "IF $2 IS NOT NULL THEN",
        TESTS + "test_what_is_not_sampled_or_no_traceparent_is_told_nowhere",
    ),
    Sabotage(
        "traces: a query string is no part of a span",
        "trace-no-query",
        'trace.get_current_span().set_attribute("url.query", "REDACTED")',
        "pass",
        TESTS + "test_a_request_to_the_api_is_a_span_without_its_query_and_its_log_lines_carry_the_trace",
    ),
)
