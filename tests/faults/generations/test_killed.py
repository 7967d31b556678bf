"""Whoever rebuilds or promotes is killed with SIGKILL at each step, and does it again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from reindexer import rebuilding, wiring
from reindexer.core.errors import GenerationConflict
from reindexer.core.profile import Profile
from reindexer.generations import lifecycle
from reindexer.generations.promotion import Terms
from reindexer.generations.upkeep import tidy_index
from reindexer.listener.trigger_monitor import Watch
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.locks import LOCK_CLASS, MIGRATE_LOCK
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.provider import Call, FakeProvider, vector_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert
from tests.support.generations import NAME, empty, settle, states
from tests.support.index_reader import IndexReader

APPLICATION = "killed"
LATE = Terms(patience_s=30)


@pytest.fixture
def env(env: Mapping[str, str], proxy: Proxy) -> Mapping[str, str]:
    return {**env, "QDRANT_URL": proxy.instead(env["QDRANT_URL"])}


@contextmanager
def child(act: Callable[[], object]) -> Iterator[int]:
    """A fork that does it; killed at the end of the block. What it writes goes nowhere."""
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(0)
            act()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Command:
    """`reindexer rebuild` and `reindexer promote`, with what a process of their own has."""

    def __init__(self, database: str, settings: Settings, made_by: str) -> None:
        self.database = database
        self.settings = settings
        self.made_by = made_by

    def rebuild(self) -> None:
        """By another number of dimensions, and a column that was not declared."""
        with connect(self.database, application_name=APPLICATION) as connection:
            source = find_source(connection, NAME)
            wanted = replace(
                source, text_columns=("title", "content", "note"), profile=Profile(dimensions=16), made_by=None
            )
            embedder = wiring.embedder_of(self.settings)(wanted)
            rebuilding.require_usable(embedder, NAME, 20.0)
            lifecycle.rebuild(connection, wanted, embedder.fingerprint, who="test")

    def promote(self) -> None:
        """And the alias follows."""
        with connect(self.database, application_name=APPLICATION) as connection:
            index = wiring.index(self.settings)
            rebuilding.promote(self.settings, connection, index, NAME, who="test", terms=LATE)


@pytest.fixture
def command(filled: Connection, database: str, settings: Settings) -> Command:
    filled.execute("ALTER TABLE context_items ADD COLUMN note text")
    return Command(database, settings, str(find_source(filled, NAME).made_by))


def is_waiting(db: Connection) -> bool:
    waits = "SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    return db.execute(waits, [APPLICATION]).fetchone() is not None


def is_gone(db: Connection) -> bool:
    """The server has noticed that its client died."""
    return db.execute("SELECT FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]).fetchone() is None


def ends_well(
    db: Connection, database: str, command: Command, worker: Worker, index: IndexReader, proxy: Proxy
) -> None:
    """Done again until it is through, there is one active generation with every row, and nothing else."""
    proxy.mode = Mode.PASS
    eventually(lambda: is_gone(db), within=20)
    watch = Watch(lambda: connect(database, application_name="test watch"), 0.1)
    if set(states(db).values()) == {"active"} and states(db) == {1: "active"}:
        with suppress(GenerationConflict):
            command.rebuild()
    watch.look(db)
    item_id = insert(db, "last")
    settle(db, worker)
    if states(db) == {1: "active", 2: "ready"}:
        command.promote()
    tidy_index(worker.postgres, worker.index)
    watch.look(db)
    settle(db, worker)
    assert states(db) == {1: "standby", 2: "active"}
    assert inspect(db, find_source(db, NAME)).well
    aliases = {each.alias_name: each.collection_name for each in index.client.get_aliases().aliases}
    assert aliases == {NAME: f"{NAME}__g2"}
    assert index.holds(item_id, vector_of("last", 16))
    for number in (1, 2):
        assert index.client.count(f"{NAME}__g{number}", exact=True).count == 5
    assert lifecycle.prune(db, NAME, who="test") == [1]
    empty(db)
    tidy_index(worker.postgres, worker.index)
    assert [each.name for each in index.client.get_collections().collections if NAME in each.name] == [f"{NAME}__g2"]
    watch.look(db)
    assert inspect(db, find_source(db, NAME)).well


@pytest.mark.parametrize("step", ["asks the provider", "waits for others", "holds generations", "waits for writers"])
@pytest.mark.first(2)
def test_a_rebuild_that_is_killed_at_a_step_ends_well_when_it_is_done_again(
    filled: Connection,
    command: Command,
    database: str,
    worker: Worker,
    index: IndexReader,
    provider: FakeProvider,
    proxy: Proxy,
    step: str,
) -> None:
    goes_on, calls = threading.Event(), len(provider.calls)

    def hang(_: Call) -> None:
        goes_on.wait(30)

    with connect(database, application_name="test") as other:
        with other.transaction():
            match step:
                case "asks the provider":
                    provider.behave = hang
                case "waits for others":
                    other.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, MIGRATE_LOCK])
                case "holds generations":
                    other.execute("SELECT FROM reindexer.generation FOR UPDATE")
                case _:
                    other.execute("UPDATE context_items SET note = NULL")
            with child(command.rebuild):
                if step == "asks the provider":
                    eventually(lambda: len(provider.calls) > calls)
                else:
                    eventually(lambda: is_waiting(filled))
        goes_on.set()
    provider.behave = lambda _: None
    ends_well(filled, database, command, worker, index, proxy)


@pytest.mark.parametrize("step", ["waits for the last changes", "holds generations", "moves the alias"])
@pytest.mark.first(2)
def test_a_promotion_that_is_killed_at_a_step_ends_well_when_it_is_done_again(
    filled: Connection, command: Command, database: str, worker: Worker, index: IndexReader, proxy: Proxy, step: str
) -> None:
    command.rebuild()
    settle(filled, worker)
    with connect(database, application_name="test") as other, other.transaction():
        if step == "waits for the last changes":
            late = "INSERT INTO reindexer.due (source, item_id, generation, lane) VALUES (%s, '7', 2, 'bulk')"
            filled.execute(late.encode(), [NAME])
        elif step == "holds generations":
            other.execute("SELECT FROM reindexer.generation FOR NO KEY UPDATE")
        else:
            proxy.mode = Mode.STALL
        with child(command.promote):
            if step == "waits for the last changes":
                hurried = "SELECT FROM reindexer.due WHERE lane = 'live' AND generation = 2"
                eventually(lambda: filled.execute(hurried).fetchone() is not None)
            elif step == "holds generations":
                eventually(lambda: is_waiting(filled))
            else:
                eventually(lambda: states(filled)[2] == "active")
    ends_well(filled, database, command, worker, index, proxy)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.first(1)
def test_who_is_killed_at_random_moments_ends_well(
    filled: Connection,
    command: Command,
    database: str,
    worker: Worker,
    index: IndexReader,
    proxy: Proxy,
    seed: int,
) -> None:
    rng = random.Random(seed)
    for _ in range(8):
        act = command.rebuild if states(filled) == {1: "active"} else command.promote
        with child(act):
            time.sleep(rng.uniform(0.0, 0.3))
        eventually(lambda: is_gone(filled), within=20)
        if states(filled).get(2) == "filling":
            Watch(lambda: connect(database, application_name="test watch"), 0.1).look(filled)
            settle(filled, worker)
    ends_well(filled, database, command, worker, index, proxy)
