"""The alias of a source follows the active generation, in one step."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient, models

from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.errors import SourceError
from reindexer.ports import Collection
from reindexer.testing.indexes import OWNER, SIZE


@pytest.fixture
def both(index: QdrantIndex) -> Iterator[tuple[Collection, Collection]]:
    """Two generations of a source; the alias names the first."""
    alias = f"contract_{uuid.uuid4().hex[:12]}"
    first, second = (Collection(alias, f"{alias}__g{n}", alias, generation=n, is_active=n == 1) for n in (1, 2))
    for each in (first, second):
        index.prepare(each, SIZE, OWNER)
    yield first, second
    for each in (first, second):
        index.drop(each)


def named(client: QdrantClient, alias: str) -> str | None:
    found = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
    return found.get(alias)


def test_the_alias_follows_and_says_whether_it_named_another(
    index: QdrantIndex, client: QdrantClient, both: tuple[Collection, Collection]
) -> None:
    first, second = both
    assert named(client, first.alias) == first.name
    assert index.follow_alias(second)
    assert named(client, first.alias) == second.name
    assert not index.follow_alias(second)
    assert index.follow_alias(first)


def test_a_worker_that_does_not_know_of_a_promotion_does_not_move_the_alias_back(
    index: QdrantIndex, client: QdrantClient, both: tuple[Collection, Collection]
) -> None:
    first, second = both
    index.follow_alias(second)
    index.prepare(first, SIZE, OWNER)
    assert named(client, first.alias) == second.name


def test_a_dropped_generation_takes_no_alias_of_another_along(
    index: QdrantIndex, client: QdrantClient, both: tuple[Collection, Collection]
) -> None:
    first, second = both
    index.follow_alias(second)
    index.drop(first)
    assert named(client, first.alias) == second.name
    assert not index.follow_alias(first)
    assert named(client, first.alias) == second.name


def test_a_foreign_collection_under_the_alias_is_left_there(
    index: QdrantIndex, client: QdrantClient, both: tuple[Collection, Collection]
) -> None:
    first, second = both
    foreign = f"foreign_{uuid.uuid4().hex[:12]}"
    client.create_collection(foreign, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    try:
        client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=first.alias)),
                models.CreateAliasOperation(
                    create_alias=models.CreateAlias(collection_name=foreign, alias_name=first.alias)
                ),
            ]
        )
        with pytest.raises(SourceError, match="which is not ours"):
            index.follow_alias(second)
        assert named(client, first.alias) == foreign
    finally:
        client.delete_collection(foreign)
