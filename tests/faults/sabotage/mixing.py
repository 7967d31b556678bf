"""Rows about vectors of two models, which never meet."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

OTHER = "tests/faults/test_other_embedder.py::"

MIXING = (
    Sabotage(
        "nothing mixed: a claim's record of the embedder is asked before anything is done",
        "claim-embedder-check",
        "require_same(source.name, claim.embedder, embedder.fingerprint)\n",
        "",
        OTHER + "test_a_lost_collection_is_made_again_by_the_recorded_embedder_alone",
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
        "SET embedder = coalesce(embedder, %(embedder)s)",
        "SET embedder = %(embedder)s",
        OTHER + "test_of_two_that_record_themselves_the_first_stays",
    ),
    Sabotage(
        "nothing mixed: a search by another model is refused",
        "search-same-embedder",
        "require_comparable(index, collection, embedder)\n",
        "",
        OTHER + "test_a_search_by_another_model_is_an_error_and_never_wrong_hits",
    ),
    Sabotage(
        "nothing mixed: a worker of another model leaves the items to others at once",
        "embedder-mismatch-instant-release",
        "wait_s = 0.0 if isinstance(error, NotThisProcess) else SOURCE_WAIT_S",
        "wait_s = SOURCE_WAIT_S",
        OTHER + "test_a_worker_of_another_model_writes_nothing_and_its_items_are_done_by_the_next_of_the_right_one",
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
