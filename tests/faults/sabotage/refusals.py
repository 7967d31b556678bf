"""Rows about refusals: of a request's form, of one text or payload, of everything."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

KINDS = (
    "tests/faults/test_provider_kinds.py::test_every_item_is_embedded_by_a_server_that_takes_requests_in_another_form"
    "_and_the_refused_one_fails_alone"
)
PROVIDER = "tests/faults/test_provider_refusals.py::"
ALL = (
    PROVIDER + "test_a_refusal_of_everything_is_the_sources_problem_and_its_items_wait_and_follow_when_it_is_over[401]"
)
QDRANT = (
    "tests/faults/test_qdrant_refuses.py::test_a_refusal_of_everything_fails_no_item_and_all_follow_when_it_is_over"
)
EMBEDDER = "reindexer/adapters/embedders/openai.py"

REFUSALS = (
    Sabotage(
        "refusals: a harmless text decides whose fault one is",
        "refusal-harmless-text-probe",
        "if trusted or (harmless := self._refusal(number, form, until)) is None:",
        "if True:",
        ALL,
    ),
    Sabotage(
        "refusals: before one input is blamed it is asked again",
        "refusal-single-input-reask",
        "trusted = inputs > 1 and",
        "trusted =",
        "tests/contract/test_embedders.py::test_no_input_alone_is_blamed_because_something_was_taken_just_before",
    ),
    Sabotage(
        "refusals: another form of request is looked for",
        "refusal-alternate-request-form",
        "if not refused.may_be_form or",
        "if True or",
        f"{KINDS}[float only]",
    ),
    Sabotage(
        "refusals: how many inputs a server takes is remembered",
        "refusal-max-inputs-memory",
        "self._limits = replace(self._limits, max_inputs=min(self._limits.max_inputs, most))\n",
        "",
        "tests/contract/test_embedders.py::test_a_server_that_takes_fewer_inputs_is_never_sent_more_again",
    ),
    Sabotage(
        "refusals: what concerns the whole source fails no item",
        "refusal-source-error-scope",
        "if isinstance(error, SourceError):",
        "if False:",
        ALL,
    ),
    Sabotage(
        "refusals: of many claims that come together one asks",
        "refusal-shared-probe",
        "self.refusals.note(self.attempt.source, error)\n",
        "pass\n",
        PROVIDER + "test_many_claims_of_a_provider_that_refuses_everything_cost_one_question",
    ),
    Sabotage(
        "refusals: a deletion does not tell that the provider takes texts again",
        "refusal-deletion-not-recovery",
        "(%(embedded)s OR NOT EXISTS (",
        "(%(embedded)s IS NOT NULL OR NOT EXISTS (",
        ALL,
    ),
    Sabotage(
        "bisecting: what fails again is halved, too",
        "bisect-repeated-failure",
        "if self._may_be_one_of(batch, exc, time.monotonic() - began):\n    return exc\n",
        "",
        PROVIDER + "test_one_text_on_which_the_provider_fails_in_whatever_way_fails_alone[500]",
    ),
    Sabotage(
        "bisecting: not where the provider fails on everything",
        "bisect-not-provider-outage",
        "except ReindexerError:\n    return False\nreturn True\n",
        "except ReindexerError:\n    return True\nreturn True\n",
        PROVIDER + "test_a_provider_that_fails_on_everything_is_not_searched_for_a_bad_text",
    ),
    Sabotage(
        "refusals: Qdrant is asked for a write that changes nothing",
        "refusal-qdrant-neutral-write",
        "error = self._cause(exc, steps)",
        "error = exc",
        f"{QDRANT}[403 to everything]",
    ),
    Sabotage(
        "refusals: and so it is before vectors are paid for again",
        "refusal-qdrant-before-embed",
        "if anew:\n    index.touch(",
        "if False:\n    index.touch(",
        f"{QDRANT}[403 to writes]",
    ),
    Sabotage(
        "bisecting: what Qdrant fails on again is halved, too",
        "bisect-refused-payload",
        "(isinstance(exc, PermanentError) or self._fails_again(exc, steps))",
        "isinstance(exc, PermanentError)",
        "tests/faults/test_qdrant_refuses.py::test_one_payload_on_which_qdrant_fails_does_not_fail_its_neighbours",
    ),
)
