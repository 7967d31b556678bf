"""What is dropped: nothing of it is left, and nothing that is left of it hides or brings back anything."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from reindexer.core.lanes import Lane
from reindexer.generations import lifecycle
from reindexer.generations.upkeep import tidy_index
from reindexer.ports import Collection
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.settings import Settings
from reindexer.worker.worker import Worker
from tests.support.claims import claim, lose_leases
from tests.support.flow import insert
from tests.support.generations import NAME, empty, made, turn
from tests.support.index_reader import IndexReader


def collections_of(index: IndexReader) -> list[str]:
    return sorted(each.name for each in index.client.get_collections().collections if each.name.startswith(NAME))


def is_emptied(db: Connection) -> bool:
    return db.execute("SELECT FROM reindexer.generation WHERE emptied_at IS NOT NULL").fetchone() is not None


@pytest.fixture
def claimed(filled: Connection, settings: Settings, worker: Worker) -> Connection:
    """Of generation 2, which is ready, an item is due."""
    made(filled, settings, worker)
    turn(filled, worker)
    filled.execute("DELETE FROM reindexer.due")
    insert(filled, "claimed")
    drain(filled)
    filled.execute("DELETE FROM reindexer.due WHERE generation = 1")
    return filled


def test_what_a_claim_holds_stays_until_it_ends(claimed: Connection, worker: Worker, index: IndexReader) -> None:
    """Its worker may still write: a collection that was dropped before would be there again."""
    held = claim(claimed, lane=Lane.BULK)
    assert held.generation == 2
    lifecycle.prune(claimed, NAME, who="test", number=2)
    empty(claimed)
    assert not is_emptied(claimed)
    tidy_index(worker.postgres, worker.index)
    assert f"{NAME}__g2" in collections_of(index)
    lose_leases(claimed)
    empty(claimed)
    assert is_emptied(claimed)
    tidy_index(worker.postgres, worker.index)
    assert collections_of(index) == [f"{NAME}__g1"]


def test_what_is_settled_after_the_drop_is_deleted_as_well(claimed: Connection) -> None:
    held = claim(claimed, lane=Lane.BULK)
    lifecycle.prune(claimed, NAME, who="test", number=2)
    empty(claimed)
    finish(claimed, held, [Finished(item, "COMPLETED", chunks=1) for item in held.items])
    empty(claimed)
    empty(claimed)
    assert is_emptied(claimed)
    for table in ("due", "ledger"):
        left = claimed.execute(f"SELECT count(*) FROM reindexer.{table} WHERE generation = 2".encode())
        assert left.fetchone() == (0,), table


def test_what_is_settled_after_its_lease_and_the_drop_leaves_nothing(claimed: Connection) -> None:
    held = claim(claimed, lane=Lane.BULK)
    lifecycle.prune(claimed, NAME, who="test", number=2)
    lose_leases(claimed)
    empty(claimed)
    finish(claimed, held, [Finished(item, "COMPLETED", chunks=1) for item in held.items])
    assert claimed.execute("SELECT count(*) FROM reindexer.ledger WHERE generation = 2").fetchone() == (0,)
    assert claimed.execute("SELECT count(*) FROM reindexer.due WHERE generation = 2").fetchone() == (0,)


def test_a_collection_that_a_late_request_made_again_is_dropped_again(
    promoted: Connection, worker: Worker, index: IndexReader
) -> None:
    """Of a claim that was given up: it was on its way when the collection was dropped."""
    lifecycle.prune(promoted, NAME, who="test")
    empty(promoted)
    tidy_index(worker.postgres, worker.index)
    assert collections_of(index) == [f"{NAME}__g2"]
    vectors = models.VectorParams(size=32, distance=models.Distance.COSINE)
    index.client.create_collection(f"{NAME}__g1", vectors_config=vectors)
    promoted.execute("UPDATE reindexer.generation SET removed_at = removed_at - interval '10 s',"
                     " emptied_at = emptied_at - interval '10 s'")  # fmt: skip
    tidy_index(worker.postgres, worker.index)
    assert collections_of(index) == [f"{NAME}__g2"]


class Looking:
    """An index that notes what the alias named whenever a collection was dropped."""

    def __init__(self, index: Any, reader: IndexReader) -> None:
        self._index = index
        self._reader = reader
        self.named: list[str] = []

    def drop(self, collection: Collection) -> None:
        aliases = {each.alias_name: each.collection_name for each in self._reader.client.get_aliases().aliases}
        self.named.append(aliases[NAME])
        self._index.drop(collection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


def test_an_alias_leaves_a_collection_before_it_is_dropped(
    promoted: Connection, worker: Worker, index: IndexReader
) -> None:
    """Whoever promoted died before the alias followed: with the collection, Qdrant drops the alias."""
    lifecycle.prune(promoted, NAME, who="test")
    empty(promoted)
    looking = Looking(worker.index, index)
    tidy_index(worker.postgres, looking)
    assert looking.named == [f"{NAME}__g2"]
