"""Rows about vectors of two models, which never meet."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

OTHER = "tests/faults/test_other_embedder.py::"
ADDRESS = "tests/faults/test_provider_address.py::"

MIXING = (
    Sabotage(
        "nothing mixed: the embedder on record makes the vectors, whatever the settings say",
        "embedder-as-recorded",
        "recorded = _recorded(settings, source, side)\n",
        "return wished or _recorded(settings, source, side)\n",
        OTHER + "test_a_worker_of_another_model_works_by_the_record",
    ),
    Sabotage(
        "nothing mixed: a process without the recorded provider's key leaves the items to others at once",
        "embedder-key-missing",
        'raise NotThisProcess(f"{needed}OPENAI_API_KEY is not set here")\n',
        "pass\n",
        OTHER + "test_a_worker_that_can_not_make_the_recorded_model_writes_nothing_and_the_next_does_its_items",
    ),
    Sabotage(
        "nothing mixed: a claim's record of the embedder is asked before anything is done",
        "claim-embedder-check",
        "require_same(source.name, claim.embedder, embedder.fingerprint)\n",
        "",
        OTHER + "test_a_claim_made_before_another_model_was_recorded_writes_nothing",
    ),
    Sabotage(
        "nothing mixed: what is noted beside the collection counts where nothing is recorded",
        "embedder-noted-fingerprint",
        "owner.require_same_embedder(collection.source, noted)  # whose vectors may have another length as well\n",
        "",
        OTHER + "test_where_nothing_is_recorded_yet_what_is_noted_beside_the_collection_counts",
    ),
    Sabotage(
        "nothing mixed: without a record the collection is looked at anew",
        "claim-qdrant-recheck",
        " or claim.embedder is None\n",
        "\n",
        OTHER + "test_a_worker_that_had_prepared_the_collection_looks_again_when_the_record_is_gone",
    ),
    Sabotage(
        "nothing mixed: the first embedder that is recorded stays",
        "embedder-first-recorded",
        "embedder = coalesce(embedder, %(embedder)s),\n",
        "embedder = %(embedder)s,\n",
        OTHER + "test_of_two_that_record_themselves_the_first_stays",
    ),
    Sabotage(
        "nothing mixed: a search by another model is refused",
        "search-same-embedder",
        "require_comparable(index, collection, embedder)\n",
        "",
        OTHER + "test_a_search_that_can_not_ask_by_the_record_is_an_error_and_never_wrong_hits",
    ),
    Sabotage(
        "nothing mixed: a worker of another model leaves the items to others at once",
        "embedder-mismatch-instant-release",
        "wait_s = 0.0 if isinstance(error, NotThisProcess) else SOURCE_WAIT_S",
        "wait_s = SOURCE_WAIT_S",
        OTHER + "test_a_worker_that_can_not_make_the_recorded_model_writes_nothing_and_the_next_does_its_items",
    ),
    Sabotage(
        "nothing mixed: a profile of other vectors is refused while there are some",
        "attach-same-vectors",
        "require_same_vectors(connection, source)\n",
        "",
        "tests/integration/test_profiles.py::"
        "test_a_profile_of_other_vectors_than_those_that_are_there_is_refused_with_the_steps_to_take",
    ),
    Sabotage(
        "nothing mixed: a file that wishes other vectors leaves the source as it is, and is applied to the others",
        "sources-file-other-vectors",
        "if why:",
        "if False:",
        "tests/integration/test_sources_file.py::"
        "test_a_source_whose_vectors_would_be_others_stays_as_it_is_and_the_rest_of_the_file_is_applied",
    ),
    Sabotage(
        "nothing mixed: another address is asked for vectors only after it has shown that it makes the same",
        "server-proven-first",
        "return ProvenEmbedder(embedder, self, source, server, proving)\n",
        "return embedder\n",
        ADDRESS + "test_an_address_that_makes_other_vectors_writes_none_and_others_take_the_items_at_once",
    ),
    Sabotage(
        "nothing mixed: what another address makes is compared with what is stored",
        "server-vectors-compared",
        "if least >= ALIKE:",
        "if True:",
        ADDRESS + "test_a_search_at_another_address_finds_only_if_that_makes_the_same_vectors",
    ),
    Sabotage(
        "nothing mixed: only the first address is taken without proof",
        "server-first-accepted",
        "AND servers = '{}';",
        ";",
        ADDRESS + "test_of_two_addresses_that_are_first_at_once_one_is_taken",
    ),
    Sabotage(
        "nothing mixed: of two addresses that begin together the second waits",
        "server-first-recorded",
        "if server and servers and server not in servers:",
        "if False:",
        ADDRESS + "test_of_two_addresses_that_begin_together_the_second_waits",
    ),
    Sabotage(
        "nothing mixed: another address waits for those who began",
        "server-others-at-work",
        "if row and row[0] > 1 and waited_s < PATIENCE_S:",
        "if False:",
        ADDRESS + "test_before_anything_is_stored_another_address_waits_for_those_who_began",
    ),
    Sabotage(
        "nothing mixed: a generation that may take vectors over inherits the addresses that made them",
        "server-inherited",
        "SELECT servers FROM reindexer.generation\n",
        "SELECT '{}'::text[] FROM reindexer.generation\n",
        ADDRESS + "test_a_rebuild_by_the_same_embedder_inherits_the_addresses",
    ),
    Sabotage(
        "nothing mixed: a worker that is refused while it embeds leaves the items to others",
        "claim-source-left",
        "self.leaves_source = isinstance(error, NotThisProcess | SourceLocked)\n",
        "pass\n",
        ADDRESS + "test_an_address_that_makes_other_vectors_writes_none_and_others_take_the_items_at_once",
    ),
    Sabotage(
        "nothing mixed: another file of the built-in model is another model",
        "embedder-model-file-hash",
        "hashed.update((folder / VECTORS).read_bytes())\n",
        "",
        "tests/unit/test_static_embedder.py::test_other_files_are_another_model",
    ),
    Sabotage(
        "nothing mixed: no embedder is guessed",
        "embedder-explicit-choice",
        'return self.embedder or ("openai" if self.openai_api_key else None)\n',
        'return self.embedder or ("openai" if self.openai_api_key else "hashing")\n',
        OTHER + "test_without_an_embedder_whoever_needs_one_ends_with_one_line_and_the_others_work",
    ),
)
