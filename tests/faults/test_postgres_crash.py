"""A server that loses what it has not written yet, and one that is no primary."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from reindexer.backfills.runs import get, start
from reindexer.core.errors import DependencyUnavailable, UsageError
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.embedded.children import Children
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.listener.trigger_monitor import Watch
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.schema import require_schema
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.requests import ReindexRequest, record
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.pause import set_paused
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from tests.support.flow import WATCH_S, Flow, insert
from tests.support.index_reader import IndexReader
from tests.support.rooms import room
from tests.support.servers import FAST

pytestmark = pytest.mark.long

NOTES = Source("notes", "public", "notes", ("id",), ("body",))
LAZY = {**FAST, "synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"}
"""Commits reach the disk up to half a minute later, unless one asks for more."""


class Server:
    """A server of its own, migrated."""

    def __init__(self, children: Children, data: Path) -> None:
        self._children = children
        self._data = data
        self._running: EmbeddedPostgres | None = None
        self.start()
        migrate(self.url, with_context_items=True)
        with connect(self.url, application_name="test") as db:
            db.execute("CHECKPOINT")

    @property
    def url(self) -> str:
        assert self._running is not None
        return self._running.url()

    def start(self) -> None:
        self._running = start_postgres(self._children, self._data, settings=LAZY)

    def crash(self) -> None:
        """All of its processes at once, as when the machine's power is cut."""
        assert self._running is not None
        self._children.kill(self._running.child)

    def crash_of_a_backend(self) -> None:
        """The postmaster lives on: it ends all others, recovers, and goes on in the same second."""
        with (
            connect(self.url, application_name="victim") as victim,
            connect(self.url, application_name="other") as other,
        ):
            began = victim.execute("SELECT pg_postmaster_start_time()").fetchone()
            os.kill(victim.info.backend_pid, signal.SIGKILL)

            def has_begun() -> bool:
                with suppress(psycopg.Error):
                    other.execute("SELECT")
                    return False
                return True

            eventually(has_begun, within=20)  # before, the postmaster takes connections, to end them at once

        def is_back() -> bool:
            with suppress(DependencyUnavailable, psycopg.Error), connect(self.url, application_name="test") as db:
                return db.execute("SELECT pg_postmaster_start_time()").fetchone() == began
            return False

        eventually(is_back, within=20)

    def restart(self) -> None:
        """As an administrator does it."""
        assert self._running is not None
        self._children.stop(self._running.child)
        self.start()

    def become_a_standby(self) -> None:
        assert self._running is not None
        self._children.stop(self._running.child)
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        os.chown(signal_file, self._data.stat().st_uid, self._data.stat().st_gid)
        self.start()


@pytest.fixture
def server() -> Iterator[Server]:
    with room() as directory, Children(directory / "logs") as children:
        yield Server(children, directory / "data")


def test_what_a_command_says_is_done_is_on_disk_whatever_the_server_is_set_to(server: Server) -> None:
    """Were it lost in a crash, nothing would follow a table that its owner believes to be followed."""
    with connect(server.url, application_name="test") as db:
        db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        attach(db, NOTES)
        set_paused(db, "notes", paused=True, who="test")
        run = start(db, find_source(db, "context_items"), who="test")
        server.crash()
    server.start()
    with connect(server.url, application_name="test") as db:
        assert db.execute("SELECT name FROM reindexer.source WHERE paused").fetchall() == [("notes",)]
        assert inspect(db, find_source(db, "notes")).well
        assert get(db, run.id).source == "context_items"


def test_a_request_is_on_disk_before_its_task_id_is_told_whatever_the_server_is_set_to(server: Server) -> None:
    with connect(server.url, application_name="test") as db:
        request = ReindexRequest("a task", insert(db, "text"))
        assert record(db, "context_items", [request], lane=Lane.BULK, sent=True) == 1
        server.crash()
    server.start()
    with connect(server.url, application_name="test") as db:
        assert db.execute("SELECT task_id FROM reindexer.request").fetchall() == [("a task",)]


def test_a_claim_is_on_disk_before_anybody_works_on_it_whatever_the_server_is_set_to(server: Server) -> None:
    """Were it lost in a crash, its token would be handed out again."""
    with connect(server.url, application_name="test") as db:
        item_id = insert(db, "text")
        drain(db)
        taken = claim_batch(db, Lane.LIVE, 10, 60)
        assert taken is not None
        server.crash()
    server.start()
    with connect(server.url, application_name="test") as db:
        kept = db.execute("SELECT item_id, token, lease_until IS NOT NULL FROM reindexer.due").fetchall()
        assert kept == [(item_id, taken.token, True)]


def test_a_standby_is_refused(server: Server) -> None:
    server.become_a_standby()
    with connect(server.url, application_name="test") as db, pytest.raises(UsageError, match="is a standby"):
        require_schema(db)


UNLOGGED = Source("context_items_cache", "public", "cache", ("id",), ("body",))


@pytest.mark.parametrize("whole", [True, False], ids=["of the whole server", "of one backend"])
@pytest.mark.first(1)
def test_a_crash_that_empties_an_unlogged_table_is_noticed_and_its_points_go(
    server: Server, settings: Settings, index: IndexReader, whole: bool
) -> None:
    """No trigger fires, and the catalog keeps no trace of it."""
    reader = IndexReader(index.client, UNLOGGED.alias)

    @contextmanager
    def at_work() -> Iterator[tuple[Connection, Flow, Watch]]:
        worker = make_worker(settings.model_copy(update={"database_url": SecretStr(server.url)}), None)
        with connect(server.url, application_name="test") as db, closing(worker):
            yield db, Flow(db, worker), Watch(lambda: connect(server.url, application_name="watch"), WATCH_S)
            db.execute("CHECKPOINT")  # else what was settled would be lost, and wait for its lease

    with at_work() as (db, flow, watch):
        db.execute("CREATE UNLOGGED TABLE cache (id int PRIMARY KEY, body text)")
        attach(db, UNLOGGED)
        db.execute("INSERT INTO cache VALUES (1, 'one'), (2, 'two')")
        eventually(flow.settles)
        watch.look(db)
        assert (runs(db), reader.count()) == (1, 2)
    for crash in (1, 2):
        if whole:
            server.crash()
            server.start()
        else:
            server.crash_of_a_backend()
        with at_work() as (db, flow, watch):
            assert db.execute("SELECT count(*) FROM cache").fetchone() == (0,)
            watch.look(db)
            eventually(flow.settles)
            assert (runs(db), reader.count()) == (1 + crash, 0)
            db.execute("INSERT INTO cache VALUES (%s, 'again')", [crash])
            eventually(flow.settles)
            watch.look(db)
            assert (runs(db), reader.count()) == (1 + crash, 1)


def test_a_restart_without_a_crash_costs_no_look_at_all_rows(server: Server) -> None:
    with connect(server.url, application_name="test") as db:
        db.execute("CREATE UNLOGGED TABLE cache (id int PRIMARY KEY, body text)")
        attach(db, UNLOGGED)
    server.restart()
    with connect(server.url, application_name="test") as db:
        assert inspect(db, UNLOGGED).well


def runs(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.run WHERE source = %s", [UNLOGGED.name]).fetchone()
    assert row is not None
    return int(row[0])
