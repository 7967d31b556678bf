"""Rows about chunks: what an edit costs, and what may be reused."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SLOW = "tests/faults/test_slow_provider.py::"
CHUNKED = "tests/integration/test_chunks.py::"
STRUCTURE = "tests/unit/test_structure_chunkers.py::"

CHUNKS = (
    Sabotage(
        "chunks: a cut depends on what is beside it",
        "chunk-cut-strength",
        "(parts[at].strength, off_middle(at))",
        "off_middle(at)",
        "tests/unit/test_chunks.py::"
        "test_a_changed_paragraph_makes_at_most_three_new_chunks_of_a_hundred_in_nearly_all_texts",
    ),
    Sabotage(
        "chunks: what is too long between the places of a structure is cut on",
        "placed-part-too-long",
        "if tokens <= room or",
        "if tokens <= room or (places and level == 0) or",
        STRUCTURE + "test_places_stand_before_all_separators_and_what_is_too_long_is_cut_on",
    ),
    Sabotage(
        "chunks: markup without words is no chunk",
        "html-markup-alone",
        "if chunk is None:",
        "if (chunk := chunk or Span(start + each.start, start + each.end)) is None:",
        STRUCTURE + "test_broken_html_and_markup_alone",
    ),
    Sabotage(
        "chunks: a script is part of no chunk",
        "html-script-gap",
        "self._gaps.append(Span(start, at))",
        "pass",
        STRUCTURE + "test_html_is_cut_at_headings_and_blocks_and_what_is_around_words_is_left_out",
    ),
    Sabotage(
        "chunks: a single chunk that moved is told from one that did not",
        "fingerprint-of-moved-chunk",
        " and not chunks[0].span.start",
        "",
        "tests/integration/test_structure_chunkers.py::test_words_that_moved_are_found_where_they_are_and_not_embedded_again",
    ),
    Sabotage(
        "tokens: other scripts than Latin have weights of their own",
        "token-estimate-script-weights",
        "torn += _beyond_ascii(text)",
        "pass",
        "tests/unit/test_tokens.py::test_a_long_text_of_any_script_is_cut_into_chunks_that_the_model_takes",
    ),
    Sabotage(
        "tokens: the parts of a chunk are estimated together",
        "token-estimate-whole-chunk",
        "return seen and estimate_tokens(text[parts[first].start : parts[last - 1].end]) <= room",
        "return seen",
        "tests/unit/test_tokens.py::test_a_long_text_of_any_script_is_cut_into_chunks_that_the_model_takes",
    ),
    Sabotage(
        "chunks: what the provider finds too long is cut smaller",
        "chunk-too-long-recut",
        "isinstance(error, InputTooLong) and error.chunk_tokens is not None",
        "False",
        "tests/faults/test_texts.py::test_what_the_provider_finds_too_long_is_cut_smaller_until_it_takes_it",
    ),
    Sabotage(
        "chunks: a text of more than half of what the model takes is cut smaller whatever the provider's words",
        "chunk-likely-too-long",
        "or estimate_tokens(lead + text) > limits.max_input_tokens // 2",
        "",
        "tests/faults/test_texts.py::"
        "test_a_text_of_more_than_half_of_what_the_model_takes_is_cut_smaller_whatever_the_reason_and_others_fail",
    ),
    Sabotage(
        "chunks: how small a text was cut is kept beyond its settling",
        "chunk-size-remembered",
        "chunk_tokens = excluded.chunk_tokens,",
        "chunk_tokens = NULL,",
        "tests/faults/test_texts.py::test_all_processes_cut_in_the_same_way_what_the_provider_found_too_long",
    ),
    Sabotage(
        "chunks: who compares knows how small a text was cut",
        "reconcile-recorded-chunk-size",
        "sides.spec.within(most.get(item_id)).chunks(row.text, row.columns)",
        "sides.spec.chunks(row.text, row.columns)",
        "tests/faults/test_texts.py::test_all_processes_cut_in_the_same_way_what_the_provider_found_too_long",
    ),
    Sabotage(
        "requests: one that was given up is followed by smaller ones",
        "request-size-timeout-shrink",
        "self._size.timed_out(len(texts))",
        "pass",
        SLOW + "test_requests_that_take_too_long_become_smaller_and_use_no_attempt_and_larger_again_when_it_is_quicker",
        alone=True,
    ),
    Sabotage(
        "requests: they grow again",
        "request-size-regrowth",
        "self._size.answered(len(texts), time.monotonic() - began, timeout_s)",
        "pass",
        SLOW + "test_requests_that_take_too_long_become_smaller_and_use_no_attempt_and_larger_again_when_it_is_quicker",
        alone=True,
    ),
    Sabotage(
        "requests: of several texts that take too long none uses a try",
        "spend-unasked-no-attempt",
        "not (limited or slow or",
        "not (limited or",
        SLOW + "test_requests_that_take_too_long_become_smaller_and_use_no_attempt_and_larger_again_when_it_is_quicker",
        alone=True,
    ),
    Sabotage(
        "begun: what is there of a long text is written",
        "begun-long-text-write",
        "if not got.has_new(step):",
        "if True:",
        SLOW + "test_what_was_embedded_of_a_long_text_before_the_provider_failed_is_not_embedded_again",
    ),
    Sabotage(
        "begun: its ledger is not believed",
        "begun-item-ledger-distrust",
        "return self.doubtful or self.begun_upto is not None",
        "return self.doubtful",
        SLOW + "test_back_to_the_former_text_when_the_new_one_is_begun_ends_with_the_former",
    ),
    Sabotage(
        "begun: its surplus is deleted",
        "chunk-surplus-deletion",
        "step.item.chunks > len(step.chunks) or step.item.uncertain",
        "step.item.doubtful",
        SLOW + "test_a_text_that_is_begun_and_then_shrinks_or_goes_leaves_no_point",
    ),
    Sabotage(
        "begun: a request takes nothing that was embedded before it",
        "request-begun-reset",
        "begun_upto = CASE WHEN due.begun_upto IS NOT NULL THEN 0 END,",
        "begun_upto = due.begun_upto,",
        SLOW + "test_a_request_for_a_begun_text_gets_all_of_it_embedded_anew_also_by_several_claims",
    ),
    Sabotage(
        "begun: of a doubtful item what was embedded before is not reused, and what was embedded since is",
        "doubt-reuse-limit",
        "return (self.item.begun_upto or 0) if self.item.forced or self.item.doubtful else None",
        "return 0 if self.item.forced or self.item.doubtful else None",
        SLOW + "test_a_worker_that_dies_with_a_begun_text_costs_what_it_has_not_written",
    ),
    Sabotage(
        "chunks: the surplus is deleted",
        "chunk-surplus-deletion",
        "step.item.chunks > len(step.chunks) or step.item.uncertain",
        "step.item.uncertain",
        CHUNKED + "test_a_text_that_shrinks_leaves_no_surplus_points",
    ),
    Sabotage(
        "chunks: those that stay get the new token",
        "token-reused-chunks",
        "for p in _points(index, s, vectors, kept, done)]",
        "for p in _points(index, s, vectors, kept, done)\n    if isinstance(s, UpdatePayload) or p.vector is not None]",
        CHUNKED + "test_every_point_of_an_edited_item_has_the_new_token_so_that_no_late_write_reaches_any",
    ),
    Sabotage(
        "chunks: those whose vectors are there are not embedded",
        "chunk-vector-reuse",
        "return self.reuses_before != 0 and (",
        "return False and (",
        CHUNKED + "test_a_changed_paragraph_of_a_hundred_costs_one_request_of_at_most_three_inputs",
    ),
    Sabotage(
        "chunks: of a doubtful item none is reused",
        "doubt-reuse-limit",
        "return (self.item.begun_upto or 0) if self.item.forced or self.item.doubtful else None",
        "return None",
        CHUNKED + "test_a_doubtful_item_and_a_request_embed_every_chunk_again",
    ),
    Sabotage(
        "payload: facts are never put beside another text's vector",
        "payload-matching-fingerprint",
        "models.FieldCondition(key=_FINGERPRINT, match=models.MatchValue(value=point.fingerprint)),\n",
        "",
        CHUNKED + "test_a_payload_edit_does_not_hide_that_qdrant_holds_another_text",
    ),
)
