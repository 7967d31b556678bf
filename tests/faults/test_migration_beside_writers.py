"""`migrate` beside writers, while somebody's transaction holds the table: nobody fails or waits for long, nothing is missed."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest
from pydantic import SecretStr

from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.sources.store import all_sources
from reindexer.sources.trigger_check import inspect
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from tests.support.comparison import differences
from tests.support.flow import Flow
from tests.support.index_reader import IndexReader
from tests.support.old_tables import TABLE
from tests.support.servers import Servers, database_url

pytestmark = pytest.mark.long

MAX_WAIT_S = 2.0


class Writers:
    """Threads that write without a pause worth the name; they remember errors, and how long a statement took at most."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[random.Random(n)]) for n in range(count)]
        self.errors: list[str] = []
        self.slowest_s = 0.0
        self.statements = 0

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, chance: random.Random) -> None:
        mine = [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(30)]
        with connect(self._url, application_name="writer") as db:
            while not self._stop.wait(0.005):
                item_id = chance.choice(mine)
                text, several = f"text {chance.random()}", chance.sample(mine, 5)
                statements: list[tuple[str, Sequence[object]]] = [
                    ("INSERT INTO context_items (id, content) VALUES (%s, %s)"
                     " ON CONFLICT (id) DO UPDATE SET content = excluded.content", [item_id, text]),
                    ("UPDATE context_items SET content = %s WHERE id = ANY (%s::uuid[])", [text, several]),
                    ("UPDATE context_items SET title = %s WHERE id = %s", [text, item_id]),
                    ("DELETE FROM context_items WHERE id = %s", [item_id]),
                ]  # fmt: skip
                self._execute(db, *chance.choice(statements))

    def _execute(self, db: Connection, query: str, parameters: Sequence[object]) -> None:
        started = time.monotonic()
        try:
            db.execute(query.encode(), parameters)
        except psycopg.Error as exc:
            self.errors.append(str(exc))
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.statements += 1


@contextmanager
def open_transaction(url: str, for_s: float) -> Iterator[None]:
    """Writes to the table, stays open, writes once more, and commits."""
    opened = threading.Event()

    def run() -> None:
        with connect(url, application_name="holder") as db, db.transaction():
            row = db.execute("INSERT INTO context_items (content) VALUES ('before') RETURNING id").fetchone()
            assert row is not None
            opened.set()
            time.sleep(for_s)
            db.execute("UPDATE context_items SET content = 'after a long while' WHERE id = %s", [row[0]])

    thread = threading.Thread(target=run)
    thread.start()
    assert opened.wait(10)
    yield
    thread.join()


@pytest.fixture
def unmigrated(servers: Servers) -> Iterator[str]:
    """The URL of a database in which only the user's table is."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        with connect(database_url(servers, name), application_name="test") as db:
            db.execute(TABLE.encode())
            db.execute("INSERT INTO context_items (content) SELECT 'row ' || n FROM generate_series(1, 500) n")
        yield database_url(servers, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.parametrize("open_s", [3, pytest.param(30, marks=pytest.mark.long)])
@pytest.mark.timeout(240)
def test_migrate_and_a_trigger_update_beside_writers_and_an_open_transaction_miss_nothing_and_hold_nobody_up(
    unmigrated: str, settings: Settings, index: IndexReader, open_s: float
) -> None:
    worker = make_worker(settings.model_copy(update={"database_url": SecretStr(unmigrated)}), None)
    with connect(unmigrated, application_name="test") as db, Writers(unmigrated, 3) as writers:
        flow = Flow(db, worker)
        with open_transaction(unmigrated, open_s):
            migrate(unmigrated, with_context_items=True)
        first_fill_is_through(db, flow)
        as_if_of_another_version(db)
        with open_transaction(unmigrated, open_s):
            migrate(unmigrated, with_context_items=True)
        first_fill_is_through(db, flow)
        assert [inspect(db, source).triggers for source in all_sources(db)] == ["ok"]
        writers.__exit__()
        eventually(flow.settles, within=30)
        assert differences(db, index) == []
    print(f"{writers.statements} statements, the slowest {writers.slowest_s:.2f} s")
    assert writers.errors == []
    assert writers.slowest_s < MAX_WAIT_S
    assert writers.statements > 100 * open_s
    worker.close()


def first_fill_is_through(db: Connection, flow: Flow) -> None:
    """While writers write: what the triggers miss from then on, nothing looks for."""

    def through() -> bool:
        flow.settles()
        return db.execute("SELECT FROM reindexer.run WHERE finished_at IS NULL").fetchone() is None

    eventually(through, within=60)


def as_if_of_another_version(db: Connection) -> None:
    """Functions that do the same, by other words, under another version's name."""
    definitions = db.execute(
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'reindexer'::regnamespace"
    ).fetchall()
    for (definition,) in definitions:
        db.execute(definition.replace("RETURN NULL;", "RETURN NULL; -- in the older version").encode())
    db.execute("UPDATE reindexer.source SET definition_hash = 'older'")
    assert [inspect(db, source).mendable for source in all_sources(db)] == [False]
