"""Rows about the embedded Qdrant: what was answered stays, steps are short, booleans are booleans."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/contract/test_qdrant_engine.py::"
COLLECTION = "reindexer/embedded/qdrant_collection.py"
STREAM = TESTS + "test_a_stream_of_writes_is_flushed_often_and_on_a_slow_disk_when_much_waits"
UPKEEP = "reindexer/embedded/qdrant_upkeep.py"

ENGINE = (
    Sabotage(
        "the embedded Qdrant: a write is in the engine's log before it is answered",
        "wal-embedded-write",
        "wal_enabled=log,\n",
        "wal_enabled=False,\n",
        TESTS + "test_what_was_answered_survives_a_sigkill_in_the_middle_of_writing",
    ),
    Sabotage(
        "the embedded Qdrant: the engine is told of booleans in a form that it takes for them",
        "embedded-boolean-match",
        "edge.MatchValue(_BOOLEANS[value])",
        "edge.MatchValue(value)",
        TESTS + "test_booleans_are_told_from_each_other_and_from_numbers[False]",
    ),
    Sabotage(
        "the embedded Qdrant: compacting goes by pages, so that requests come between",
        "embedded-compaction-paging",
        "return max(1, min(PAGE_POINTS, PAGE_BYTES // self._point_bytes))",
        "return EVERYTHING",
        TESTS + "test_compacting_takes_short_steps_and_keeps_all_that_is_there",
    ),
    Sabotage(
        "the embedded Qdrant: a page has not too many points, however short their vectors",
        "embedded-compaction-paging",
        "min(PAGE_POINTS, PAGE_BYTES // self._point_bytes)",
        "PAGE_BYTES // self._point_bytes",
        TESTS + "test_points_of_short_vectors_are_copied_in_short_steps_too",
    ),
    Sabotage(
        "the embedded Qdrant: what is written while a shard is copied is copied again",
        "embedded-shard-copy-recopy",
        "self._touched |= self._ids_of(each.points)",
        "self._touched |= set()",
        TESTS + "test_what_is_written_while_it_compacts_is_there_afterwards",
    ),
    Sabotage(
        "the embedded Qdrant: a stream of writes is not ahead of the copy for ever",
        "embedded-copy-own-writes",
        "if self._touched is not None and self._is_copied:",
        "if self._touched is not None and False:",
        TESTS + "test_compacting_ends_beside_a_stream_of_writes_that_is_ahead_of_its_steps",
    ),
    Sabotage(
        "the embedded Qdrant: the collection's new shard is written down before the old one goes",
        "embedded-shard-switch-order",
        "settled()\n",
        "pass\n",
        TESTS + "test_the_server_compacts_by_itself_and_what_it_keeps_survives",
    ),
    Sabotage(
        "the embedded Qdrant: a stream of writes is flushed though nobody pauses, where the disk is quick",
        "embedded-stream-flush",
        "return self._is_quiet or WAITS * self._store.disk_s() < self._hold_s",
        "return self._is_quiet",
        STREAM + "[False]",
    ),
    Sabotage(
        "the embedded Qdrant: a flush that would take long is put off",
        "embedded-stream-flush",
        "return self._is_quiet or WAITS * self._store.disk_s() < self._hold_s",
        "return True",
        STREAM + "[True]",
    ),
    Sabotage(
        "the embedded Qdrant: a flush is put off until much waits, not for ever",
        "embedded-flush-delay-limit",
        "if waits >= PUT_OFF or (waits >= 1 and self._is_good_moment):",
        "if waits >= 1 and self._is_good_moment:",
        STREAM + "[True]",
    ),
    Sabotage(
        "the embedded Qdrant: a flush is due by points, too, where bytes are few",
        "embedded-flush-by-points",
        "shard.unflushed_points / FLUSH_POINTS",
        "0",
        STREAM + "[False]",
    ),
    Sabotage(
        "the embedded Qdrant: a new shard is flushed before it takes the old one's place",
        "embedded-new-shard-flushed",
        "if is_whole and collection.fresh is not None:",
        "if False:",
        TESTS + "test_a_new_shard_is_on_the_disk_when_it_takes_the_old_ones_place",
    ),
    Sabotage(
        "the embedded Qdrant: the folder of a shard that was replaced goes",
        "embedded-old-shard-removed",
        "shutil.rmtree(folder, ignore_errors=True)\n",
        "pass\n",
        TESTS + "test_a_new_shard_is_on_the_disk_when_it_takes_the_old_ones_place",
    ),
    Sabotage(
        "the embedded Qdrant: a shard that can't be written down does not take the old one's place",
        "embedded-shard-switch-rollback",
        "self.current, self.described.folder, self.described.gone = old, old.folder.name, gone",
        "pass",
        TESTS + "test_where_compacting_cant_be_written_down_what_is_written_next_lies_where_the_next_start_looks",
    ),
    Sabotage(
        "the embedded Qdrant: a collection that can't be written down is not made",
        "embedded-create-rollback",
        "self.collections.pop(name, None)\nshutil",
        "shutil",
        TESTS + "test_what_cant_be_written_down_is_not_in_force",
    ),
    Sabotage(
        "the embedded Qdrant: nothing of a write is done where one of its vectors does not fit",
        "embedded-write-atomicity",
        "self._require_fits(vector)\n",
        "pass\n",
        TESTS + "test_of_points_one_of_which_does_not_fit_none_is_written",
    ),
    Sabotage(
        "up: the index of an older version is filled anew without waiting for a write",
        "up-lost-index-rebuild",
        "rebuild_if_lost(connection, source.name, source.generation, None)\n",
        "pass\n",
        "tests/integration/test_up_over_older_data.py::"
        "test_an_index_of_an_older_version_is_told_in_one_line_and_filled_anew_without_a_write",
    ),
)
