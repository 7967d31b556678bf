"""Rows about queries and documents that a model embeds differently."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SIDES_TEST = "tests/integration/test_sides.py::"
HEADER = "tests/integration/test_chunk_header.py::"
STORED = "tests/integration/test_store_text.py::"
SPEC = "tests/unit/test_embedding_spec.py::"
GENERATIONS = (
    SIDES_TEST + "test_generations_of_one_model_with_other_document_sides_share_no_vector"
    "_and_are_each_asked_in_their_own_way"
)

SIDES = (
    Sabotage(
        "sides: the prefix of documents is part of a chunk's fingerprint, and no donor hands over a vector without it",
        "fingerprint-document-prefix",
        "sent = self.prefix + own",
        "sent = own",
        f"{GENERATIONS}[prefix]",
    ),
    Sabotage(
        "sides: so is the input type",
        "fingerprint-input-type",
        "return digest(asked if input_type is None else [*asked, input_type])",
        "return digest(asked)",
        f"{GENERATIONS}[type]",
    ),
    Sabotage(
        "sides: documents are sent with their prefix",
        "document-prefix-sent",
        "return self.lead + self.text",
        "return self.text",
        SIDES_TEST + "test_documents_and_queries_get_their_own_prefix_and_neither_is_part_of_a_span",
    ),
    Sabotage(
        "sides: a chunk and its prefix are never more than the model takes",
        "prefix-token-room",
        "room -= estimate_tokens(prefix) + SEAM",
        "pass",
        SPEC + "test_a_chunk_and_its_prefix_are_never_more_than_the_model_takes",
    ),
    Sabotage(
        "headers: the header is part of a chunk's fingerprint",
        "fingerprint-chunk-header",
        "own = header + text[span.start : span.end]",
        "own = text[span.start : span.end]",
        HEADER + "test_a_title_embeds_the_chunks_of_its_item_and_no_others",
    ),
    Sabotage(
        "headers: a chunk and its header are never more than the model takes",
        "header-token-room",
        "room -= header_tokens + SEAM",
        "pass",
        "tests/unit/test_header.py::test_a_chunk_and_its_header_are_never_more_than_the_model_takes",
    ),
    Sabotage(
        "stored texts: a payload holds the text of its own chunk",
        "stored-text-of-chunk",
        "return {**row.payload, text_key: self.text(row.text)}",
        "return {**row.payload, text_key: row.text}",
        STORED + "test_each_point_holds_its_own_text_without_prefix_and_header",
    ),
    Sabotage(
        "stored texts: beside a vector that waits for a new one stays the text that it was made of",
        "stored-text-kept",
        "if key in held and point.fingerprint == fingerprints[place]:",
        "if False:",
        STORED + "test_while_a_new_text_waits_for_the_provider_the_point_keeps_the_old_one_beside_the_new_payload",
    ),
    Sabotage(
        "stored texts: a payload beside an older text tells of no text that stands in it",
        "stored-text-of-older-text",
        "payload_fingerprint(self.row.payload, keywords=keywords)",
        "with_keywords(self.payload_fingerprint, keywords)",
        STORED + "test_a_text_that_comes_back_while_its_key_is_new_is_stored",
    ),
    Sabotage(
        "stored texts: another key rewrites payloads",
        "fingerprint-text-key",
        "payload if text_key is None else {**payload, RESERVED: text_key}",
        "payload",
        STORED + "test_it_is_added_renamed_and_taken_away_in_place_without_the_provider",
    ),
    Sabotage(
        "stored texts: a comparison looks at them",
        "reconcile-stored-text",
        "if not same_json(point.payload, chunk.payload(row, text_key)):",
        "if not same_json({**(point.payload or {}), text_key: None}, {**row.payload, text_key: None}):",
        STORED + "test_reconcile_finds_another_text_and_repair_mends_it",
    ),
    Sabotage(
        "sides: a query gets the prefix of the generation that is searched",
        "query-prefix-of-source",
        "return PrefixedEmbedder(limited, prefix) if prefix else limited",
        "return limited",
        f"{GENERATIONS}[prefix]",
    ),
    Sabotage(
        "sides: each side is asked for by its own input type",
        "input-type-of-side",
        "input_type=profile.asking(side).input_type,",
        'input_type=profile.asking("document").input_type,',
        SIDES_TEST + "test_each_request_says_the_input_type_of_its_side",
    ),
    Sabotage(
        "sides: a comparison asks each generation in its own way",
        "compare-own-query-side",
        'return self.embedder.fingerprint, self.source.profile.asking("query")',
        "return self.embedder.fingerprint",
        SIDES_TEST + "test_a_comparison_asks_each_generation_in_its_own_way",
    ),
    Sabotage(
        "sides: a change of the document side is a rebuild",
        "profile-document-side",
        "if said != says:",
        "if False:",
        SIDES_TEST + "test_a_query_side_changes_in_place_and_a_document_side_does_not",
    ),
    Sabotage(
        "sides: an address proves itself by documents, whatever is asked there next",
        "server-proven-by-documents",
        "proving = documents(source) if documents else embedder",
        "proving = embedder",
        SIDES_TEST + "test_another_address_proves_itself_by_documents_before_a_query_is_asked_there",
    ),
    Sabotage(
        "sides: and by none that were asked for by another input type",
        "server-proof-input-type",
        'if there.profile.asking("document").input_type != input_type:',
        "if False:",
        SIDES_TEST + "test_another_address_is_not_judged_by_vectors_of_another_input_type",
    ),
    Sabotage(
        "sides: a rebuild by an input type that the provider refuses does not begin",
        "rebuild-input-type-asked",
        "if source.profile.asking(side).input_type:",
        "if False:",
        SIDES_TEST + "test_a_rebuild_by_an_input_type_that_the_provider_refuses_is_refused",
    ),
)
