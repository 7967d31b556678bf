"""A worker that is stopped (SIGSTOP) beyond its lease while others go on with its item, and then goes on itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from reindexer.embedded.children import Child
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import vector_of
from reindexer.testing.proxy import Mode
from reindexer.testing.waiting import eventually
from tests.support.flow import idle, insert, status
from tests.support.index_reader import IndexReader
from tests.support.places import Place, place
from tests.support.processes import Processes
from tests.support.servers import Servers

LEASE_S = "3"

Act = Callable[[Connection, str], None]


def edit(db: Connection, item_id: str) -> None:
    db.execute("UPDATE context_items SET content = 'new' WHERE id = %s", [item_id])


def delete(db: Connection, item_id: str) -> None:
    db.execute("DELETE FROM context_items WHERE id = %s", [item_id])


def replace(db: Connection, item_id: str) -> None:
    delete(db, item_id)
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, 'new')", [item_id])


def stop(worker: Child) -> None:
    os.killpg(worker.process.pid, signal.SIGSTOP)


def go_on(worker: Child, stopping_place: Place) -> None:
    """What was held arrives, and the worker hears of it."""
    stopping_place.goes_on.set()
    stopping_place.qdrant.mode = Mode.PASS
    eventually(lambda: stopping_place.qdrant.held == 0)
    os.killpg(worker.process.pid, signal.SIGCONT)


@pytest.fixture
def stopping_place(step: str, servers: Servers) -> Iterator[Place]:
    """Where it is stopped."""
    with place(step, servers.qdrant_url) as found:
        yield found


@pytest.mark.parametrize(
    ("act", "step"),
    [
        pytest.param(delete, "claim", id="deleted while the provider works"),
        pytest.param(edit, "embedding", id="edited while its write is under way"),
        pytest.param(delete, "embedding", id="deleted while its write is under way"),
        pytest.param(replace, "embedding", id="deleted and inserted while its write is under way"),
    ],
)
@pytest.mark.first(1)
def test_a_worker_stopped_beyond_its_lease_changes_nothing_when_it_goes_on(
    db: Connection, processes: Processes, index: IndexReader, stopping_place: Place, act: Act
) -> None:
    listener = processes.listener()
    stopped = processes.worker(
        "-n", "stopped@%h", pool="solo", concurrency=1, REINDEXER_LEASE_S=LEASE_S, **stopping_place.env
    )
    item_id = insert(db, "old")
    eventually(stopping_place.stands_still, within=20)
    stop(stopped)
    act(db, item_id)
    processes.worker("-n", "other@%h", pool="solo", REINDEXER_LEASE_S=LEASE_S)
    eventually(lambda: idle(db), within=30)
    assert index.count() == (0 if act is delete else 1)

    processes.children.stop(listener)  # no second look yet
    under_way = stopping_place.qdrant.held == 1
    go_on(stopped, stopping_place)
    if under_way and act is delete:
        eventually(lambda: index.count() == 1, what="the fence has nothing to compare that write with")
    eventually(lambda: "settled" in log_of(stopped), within=20)
    processes.listener()
    if act is delete:
        eventually(lambda: index.count() == 0 and idle(db), within=20)
        eventually(lambda: status(db, item_id) is None, within=20)  # it may just be looked at again
    else:
        assert index.holds(item_id, vector_of("new"))
        assert status(db, item_id) == ("COMPLETED", None)
