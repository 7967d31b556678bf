"""What the embedded Qdrant adds to its engine: durability of what was answered, compacting, booleans."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from qdrant_client import QdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import ResponseHandlingException

from reindexer.embedded.qdrant_collection import Collection, Described
from reindexer.embedded.qdrant_store import Store, forget_abandoned
from reindexer.embedded.qdrant_upkeep import FLUSH_POINTS, PUT_OFF, Upkeep
from reindexer.embedded.turns import Turns
from reindexer.testing.waiting import eventually
from tests.support.qdrant_process import Process, connect

SIZE = 512
PARAMS = {"vectors": {"size": SIZE, "distance": "Dot"}}
POINTS = 3_000


def test_the_engine_still_takes_pythons_booleans_for_numbers(tmp_path: Path) -> None:
    """When this fails it is mended: `_BOOLEANS` of `qdrant_words` can go."""
    shard = edge.EdgeShard.create(
        str(tmp_path), edge.EdgeConfig(vectors=edge.EdgeVectorParams(size=1, distance=edge.Distance.Dot))
    )
    shard.update(edge.UpdateOperation.upsert_points([edge.Point(n, [1.0], {"is": bool(n)}) for n in (0, 1)]))

    def found(value: Any) -> int:
        where = edge.Filter(must=[edge.FieldCondition(key="is", match=edge.MatchValue(value))])
        return shard.count(edge.CountRequest(filter=where))

    assert [found(True), found(False)] == [0, 0]
    assert [found(np.bool_(True)), found(np.bool_(False))] == [1, 1]


@pytest.mark.parametrize("indexed", [False, True])
def test_booleans_are_told_from_each_other_and_from_numbers(indexed: bool) -> None:
    values: list[Any] = [True, False, 1, 0, "true", [True, 7], None]

    def equals(value: bool) -> m.FieldCondition:
        return m.FieldCondition(key="is", match=m.MatchValue(value=value))

    with Process("--memory") as server:
        client = connect(server.url)
        client.create_collection("c", vectors_config=m.VectorParams(size=1, distance=m.Distance.DOT))
        if indexed:
            client.create_payload_index("c", "is", m.PayloadSchemaType.BOOL)
        client.upsert("c", [m.PointStruct(id=n, vector=[1.0], payload={"is": each}) for n, each in enumerate(values)])

        def found(condition: m.Filter) -> list[Any]:
            return [record.id for record in client.scroll("c", condition)[0]]

        assert found(m.Filter(must=[equals(True)])) == [0, 5]
        assert found(m.Filter(must=[equals(False)])) == [1]
        assert found(m.Filter(must_not=[equals(True)])) == [1, 2, 3, 4, 6]
        client.delete("c", m.Filter(must=[equals(False)]))
        assert client.count("c").count == len(values) - 1
        client.close()


def test_of_points_one_of_which_does_not_fit_none_is_written(collection: Collection, tmp_path: Path) -> None:
    before = contents(collection)
    good = {"id": 5, "vector": [1.0] * SIZE}
    for wrong, told in (([1.0], f"expected dim: {SIZE}, got 1"), ([[1.0] * SIZE] * 2, "multi")):
        with pytest.raises(Exception, match=told):
            do(collection, "upsert", points=[good, {"id": 7, "vector": wrong}])
        assert contents(collection) == before
    collection.close()
    again = Collection(tmp_path, collection.described, log=True)
    assert contents(again) == before, "nor is it in the log, to come up after a start"
    again.close()


@pytest.mark.long
def test_what_was_answered_survives_a_sigkill_in_the_middle_of_writing(tmp_path: Path) -> None:
    answered: dict[int, int] = {}
    deleted: set[int] = set()
    for life in range(3):
        with Process("--path", str(tmp_path)) as server:
            client = connect(server.url)
            if not life:
                client.create_collection("c", vectors_config=m.VectorParams(size=SIZE, distance=m.Distance.DOT))
            killer = threading.Timer(0.5 + random.random(), server.process.kill)
            killer.start()
            _write_until_it_dies(client, life, answered, deleted)
            killer.join()
            client.close()
            server.process.communicate()
        with Process("--path", str(tmp_path)) as server:
            client = connect(server.url)
            stored = {record.id: record.payload or {} for record in client.scroll("c", limit=100_000)[0]}
            client.close()
            assert server.end(signal.SIGTERM)[0] == 0
        assert {n: stored.get(n, {}).get("life") for n in answered} == answered
        assert not deleted & stored.keys()


def _write_until_it_dies(client: QdrantClient, life: int, answered: dict[int, int], deleted: set[int]) -> None:
    """Note what was answered; what was on its way when it died may be there or not."""
    try:
        for start in range(0, 100_000, 20):
            ids = range(start + 1, start + 21)
            for number in ids:
                answered.pop(number, None)
                deleted.discard(number)
            points = [m.PointStruct(id=n, vector=[float(n)] * SIZE, payload={"life": -1}) for n in ids]
            client.upsert("c", points)
            for number in ids[:10]:
                client.set_payload("c", {"life": life}, [number])
                answered[number] = life
            client.delete("c", [ids[-1]])
            deleted.add(ids[-1])
    except ResponseHandlingException:
        pass


# Compacting


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    """Of many points, most of which are gone."""
    described = Described("first", dict(PARAMS))
    collection = Collection(tmp_path, described, log=True, is_new=True)
    collection.index("kind", "keyword")
    put(collection, range(POINTS))
    do(collection, "delete", points=list(range(0, POINTS, 2)))
    yield collection
    collection.close()


def do(collection: Collection, kind: str, **what: Any) -> None:
    collection.write(collection.understood([{kind: what}]), 0)


def put(collection: Collection, ids: range, kind: str = "x", size: int = SIZE) -> None:
    points = [{"id": n, "vector": [float(n % 7)] * size, "payload": {"n": n, "kind": kind}} for n in ids]
    do(collection, "upsert", points=points)


def contents(collection: Collection) -> dict[Any, Any]:
    records, _ = collection.shard.scroll(edge.ScrollRequest(limit=10**6, with_payload=True, with_vector=True))
    return {record.id: (record.payload, record.vector) for record in records}


def kinds(collection: Collection, kind: str) -> int:
    where = edge.Filter(must=[edge.FieldCondition(key="kind", match=edge.MatchValue(kind))])
    return collection.count(where)


def test_compacting_takes_short_steps_and_keeps_all_that_is_there(collection: Collection, tmp_path: Path) -> None:
    before, told = contents(collection), list[str]()
    steps = list(collection.compacting("second", lambda: told.append(collection.described.folder)))
    assert len(steps) >= 5, "a page a step"
    assert contents(collection) == before
    assert (told, collection.let_go()) == (["second"], tmp_path / "first")
    assert collection.described.gone == 0
    assert kinds(collection, "x") == len(before)
    put(collection, range(3))
    assert len(contents(collection)) == len(before) + 2


def test_points_of_short_vectors_are_copied_in_short_steps_too(tmp_path: Path) -> None:
    short = Described("first", {"vectors": {"size": 1, "distance": "Dot"}})
    collection = Collection(tmp_path, short, log=True, is_new=True)
    put(collection, range(POINTS), size=1)
    steps = len(list(collection.compacting("second", lambda: None)))
    collection.close()
    assert steps >= 6


def test_what_is_written_while_it_compacts_is_there_afterwards(collection: Collection) -> None:
    writes: Iterator[Callable[[], None]] = iter([
        lambda: put(collection, range(5), "early"),  # behind what is copied
        lambda: do(collection, "delete", filter={"must": [{"key": "n", "range": {"gte": 100, "lt": 110}}]}),
        lambda: do(collection, "delete", points=[1]),
        lambda: do(collection, "overwrite_payload", filter={"must": [{"has_id": [3]}]}, payload={"kind": "changed"}),
        lambda: put(collection, range(POINTS, POINTS + 5), "late"),
    ])  # fmt: skip
    expected: dict[Any, Any] = {}
    for _ in collection.compacting("second", lambda: None):
        if write := next(writes, None):
            write()
            expected = contents(collection)
    assert next(writes, None) is None
    assert contents(collection) == expected
    assert (kinds(collection, "early"), kinds(collection, "changed"), kinds(collection, "late")) == (3, 1, 5)


def test_compacting_ends_beside_a_stream_of_writes_that_is_ahead_of_its_steps(collection: Collection) -> None:
    for step, _ in enumerate(collection.compacting("second", lambda: None)):
        put(collection, range(step * 500 % POINTS, step * 500 % POINTS + 500))
        assert step < 50
    assert collection.current.folder.name == "second"
    assert collection.count() == POINTS


def test_compacting_that_is_given_up_leaves_all_as_it_was(collection: Collection, tmp_path: Path) -> None:
    before = contents(collection)
    steps = collection.compacting("second", lambda: None)
    next(steps)
    steps.close()
    assert contents(collection) == before
    assert [each.name for each in tmp_path.iterdir()] == ["first"]


def test_where_compacting_cant_be_written_down_what_is_written_next_lies_where_the_next_start_looks(
    collection: Collection, tmp_path: Path
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    gone = collection.described.gone
    with pytest.raises(OSError, match="No space"):
        for _ in collection.compacting("second", full):
            pass
    assert [each.name for each in tmp_path.iterdir()] == ["first"]
    assert (collection.described.folder, collection.described.gone) == ("first", gone), "it is tried again"
    put(collection, range(POINTS, POINTS + 1), "late")
    collection.close()
    again = Collection(tmp_path, Described("first", dict(PARAMS)), log=True)
    assert kinds(again, "late") == 1
    again.close()


def test_what_cant_be_written_down_is_not_in_force(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.create("kept", dict(PARAMS))
    store.change_aliases([{"create_alias": {"collection_name": "kept", "alias_name": "a"}}])
    blocker = tmp_path / "store" / "collections.new"  # as a full disk: the file can't be written
    blocker.mkdir()
    for change in (
        lambda: store.create("new", dict(PARAMS)),
        lambda: store.drop("kept"),
        lambda: store.change_aliases([{"delete_alias": {"alias_name": "a"}}]),
    ):
        with pytest.raises(OSError, match="directory"):
            change()
    assert (list(store.collections), store.aliases) == (["kept"], {"a": "kept"})
    blocker.rmdir()
    store.create("new", dict(PARAMS))
    store.close()


@pytest.mark.long
def test_the_server_compacts_by_itself_and_what_it_keeps_survives(tmp_path: Path) -> None:
    def folder() -> str:
        told = json.loads((tmp_path / "collections.json").read_text())
        return str(told["collections"]["c"]["folder"])

    with Process("--path", str(tmp_path)) as server:
        client = connect(server.url)
        client.create_collection("c", vectors_config=m.VectorParams(size=4, distance=m.Distance.DOT))
        first = folder()
        client.upsert("c", [m.PointStruct(id=n, vector=[1.0] * 4, payload={"n": n}) for n in range(2_100)])
        client.delete("c", list(range(2_000)))
        eventually(lambda: folder() != first, within=20)
        client.close()
        server.end(signal.SIGKILL)
    with Process("--path", str(tmp_path)) as server:
        client = connect(server.url)
        assert [record.payload for record in client.scroll("c", limit=1000)[0]] == [
            {"n": n} for n in range(2_000, 2_100)
        ]
        client.close()


@contextmanager
def kept_up(folder: Path, hold_s: float) -> Iterator[tuple[Collection, Turns]]:
    """A collection that is looked after, and the turns in which it is written."""
    store = Store(folder)
    store.create("c", {"vectors": {"size": 1, "distance": "Dot"}})
    try:
        with Turns() as turns, Upkeep(store, turns, hold_s=hold_s):
            yield store.collections["c"], turns
    finally:
        store.close()


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_stream_of_writes_is_flushed_often_and_on_a_slow_disk_when_much_waits(tmp_path: Path, is_slow: bool) -> None:
    """Nobody pauses. Next to a wait of no time every disk is slow."""
    with kept_up(tmp_path, 0.0 if is_slow else 60.0) as (collection, turns):
        written = 0

        def write(points: int) -> None:
            nonlocal written
            asyncio.run(turns.take(1, lambda: put(collection, range(written, written + points), size=1)))
            written += points

        def is_flushed() -> bool:
            write(1)
            return collection.current.unflushed_points < FLUSH_POINTS

        while written < (PUT_OFF - 1) * FLUSH_POINTS:
            write(500)
        if is_slow:
            for _ in range(100):
                assert not is_flushed()
                time.sleep(0.01)
            while written < PUT_OFF * FLUSH_POINTS:
                write(500)
        eventually(is_flushed, within=30, every=0.02)
        assert turns.quiet_s < 0.5


def test_a_new_shard_is_on_the_disk_when_it_takes_the_old_ones_place(tmp_path: Path) -> None:
    stays = FLUSH_POINTS // 2
    with kept_up(tmp_path, 60.0) as (collection, turns):
        first = collection.current
        turns.put(0, lambda: put(collection, range(2 * stays + 1), size=1)).result()
        turns.put(0, lambda: do(collection, "delete", points=list(range(stays + 1)))).result()
        eventually(lambda: collection.current is not first, within=60)
        assert (collection.count(), collection.current.unflushed_points) == (stays, 0)
        eventually(lambda: not first.folder.exists(), within=20)


def test_an_index_whose_process_was_killed_leaves_no_folder_in_memory_for_long(tmp_path: Path) -> None:
    held, abandoned, begun = tmp_path / "held", tmp_path / "abandoned", tmp_path / "begun"
    young = tmp_path / "young"
    stores = [Store(held), Store(abandoned), Store(young)]
    begun.mkdir()
    for store in stores[1:]:
        store.close()
    for folder in (held, abandoned, begun):
        os.utime(folder, (0, 0))
    forget_abandoned(young)
    assert young.exists()
    for folder in (held, abandoned, begun):
        forget_abandoned(folder)
    assert [each.exists() for each in (held, abandoned, begun)] == [True, False, True]
    stores[0].close()
