"""Rows about chunks: what an edit costs, and what may be reused."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

CHUNKED = "tests/integration/test_chunks.py::"

CHUNKS = (
    Sabotage(
        "chunks: a cut depends on what is beside it",
        "reindexer/core/chunks.py",
        "(parts[at].strength, off_middle(at))",
        "off_middle(at)",
        "tests/unit/test_chunks.py::"
        "test_a_changed_paragraph_makes_at_most_three_new_chunks_of_a_hundred_in_nearly_all_texts",
    ),
    Sabotage(
        "tokens: other scripts than Latin have weights of their own",
        "reindexer/core/tokens.py",
        "torn += _beyond_ascii(text)",
        "pass",
        "tests/unit/test_tokens.py::test_a_long_text_of_any_script_is_cut_into_chunks_that_the_model_takes",
    ),
    Sabotage(
        "tokens: the parts of a chunk are estimated together",
        "reindexer/core/chunks.py",
        "return seen and estimate_tokens(text[parts[first].start : parts[last - 1].end]) <= room",
        "return seen",
        "tests/unit/test_tokens.py::test_a_long_text_of_any_script_is_cut_into_chunks_that_the_model_takes",
    ),
    Sabotage(
        "chunks: what the provider finds too long is cut smaller",
        "reindexer/flow/attempt.py",
        "isinstance(error, InputTooLong) and error.chunk_tokens is not None",
        "False",
        "tests/faults/test_texts.py::test_what_the_provider_finds_too_long_is_cut_smaller_until_it_takes_it",
    ),
    Sabotage(
        "chunks: a text of more than half of what the model takes is cut smaller whatever the provider's words",
        "reindexer/flow/too_long.py",
        "or tokens > limits.max_input_tokens // 2",
        "",
        "tests/faults/test_texts.py::"
        "test_a_text_of_more_than_half_of_what_the_model_takes_is_cut_smaller_whatever_the_reason_and_others_fail",
    ),
    Sabotage(
        "chunks: how small a text was cut is kept beyond its settling",
        "reindexer/postgres/sql/settle.sql",
        "chunk_tokens = excluded.chunk_tokens,",
        "chunk_tokens = NULL,",
        "tests/faults/test_texts.py::test_all_processes_cut_in_the_same_way_what_the_provider_found_too_long",
    ),
    Sabotage(
        "chunks: who compares knows how small a text was cut",
        "reindexer/flow/reconcile.py",
        "sides.recipe.within(most.get(item_id)).chunks(row.text)",
        "sides.recipe.chunks(row.text)",
        "tests/faults/test_texts.py::test_all_processes_cut_in_the_same_way_what_the_provider_found_too_long",
    ),
    Sabotage(
        "chunks: the surplus is deleted",
        "reindexer/flow/write.py",
        "step.item.chunks > len(step.chunks) or step.item.doubtful",
        "step.item.doubtful",
        CHUNKED + "test_a_text_that_shrinks_leaves_no_surplus_points",
    ),
    Sabotage(
        "chunks: those that stay get the new token",
        "reindexer/flow/write.py",
        "for s in steps if isinstance(s, Embed | UpdatePayload) for p in _points(s, vectors, kept)]",
        "for s in steps if isinstance(s, Embed | UpdatePayload) for p in _points(s, vectors, kept)\n"
        "        if isinstance(s, UpdatePayload) or p.vector is not None]",
        CHUNKED + "test_every_point_of_an_edited_item_has_the_new_token_so_that_no_late_write_reaches_any",
    ),
    Sabotage(
        "chunks: those whose vectors are there are not embedded",
        "reindexer/core/plan.py",
        "return certain and self.item.chunks > 0 and",
        "return False and",
        CHUNKED + "test_a_changed_paragraph_of_a_hundred_costs_one_request_of_at_most_three_inputs",
    ),
    Sabotage(
        "chunks: of a doubtful item none is reused",
        "reindexer/core/plan.py",
        "certain = not self.item.forced and not self.item.doubtful\n",
        "certain = True\n",
        CHUNKED + "test_a_doubtful_item_and_a_wish_embed_every_chunk_again",
    ),
    Sabotage(
        "payload: facts are never put beside another text's vector",
        "reindexer/adapters/qdrant_index.py",
        "            models.FieldCondition(key=_FINGERPRINT, match=models.MatchValue(value=fingerprint)),\n",
        "",
        CHUNKED + "test_a_payload_edit_does_not_hide_that_qdrant_holds_another_text",
    ),
)
