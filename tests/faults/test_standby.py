"""A failover that turns the server under running processes into a standby that lags behind: nothing is read as deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from reindexer.core.errors import SourceError
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.embedded.children import Children
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.index.as_of import AsOf
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.sources.rows import read_rows, without_row
from reindexer.sources.store import find_source
from reindexer.testing.processes import log_of
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from tests.support.commands import ROLES, start
from tests.support.comparison import differences
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.rooms import room
from tests.support.servers import FAST


class Pair:
    """A primary, and a standby that has stopped following it: it lacks the rows that came since."""

    def __init__(self, children: Children, directory: Path) -> None:
        data, copy = directory / "primary", directory / "standby"
        first = start_postgres(children, data, settings=FAST)
        migrate(first.url(), with_context_items=True)
        with connect(first.url(), application_name="test") as db:
            db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
        children.stop(first.child)
        shutil.copytree(data, copy)
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, data.stat().st_uid, data.stat().st_gid)
        copy.chmod(0o700)
        signal_file = copy / "standby.signal"
        signal_file.touch()
        shutil.chown(signal_file, data.stat().st_uid, data.stat().st_gid)
        self.primary: EmbeddedPostgres = start_postgres(children, data, settings=FAST, name="primary")
        self.standby: EmbeddedPostgres = start_postgres(children, copy, settings=FAST, name="standby")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with room() as directory, Children(directory / "logs") as children:
        yield Pair(children, directory)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.first(1)
def test_no_process_starts_on_a_standby(pair: Pair, env: Mapping[str, str], role: str) -> None:
    code, line = start(role, {**env, "DATABASE_URL": pair.standby.url()})
    assert (code, "DATABASE_URL is a standby; reindexer needs the primary" in line) == (2, True)


def test_a_row_that_a_standby_does_not_have_is_never_read_as_deleted(pair: Pair) -> None:
    with connect(pair.primary.url(), application_name="test") as db:
        item_id = insert(db, "not on the standby")
        assert list(read_rows(db, CONTEXT_ITEMS, [item_id])) == [item_id]
        assert without_row(db, CONTEXT_ITEMS, [item_id]) == []
    with connect(pair.standby.url(), application_name="test") as db:
        for read in (read_rows, without_row):
            with pytest.raises(SourceError, match="the server is a standby"):
                read(db, CONTEXT_ITEMS, [item_id])


def test_a_search_beside_a_standby_does_not_tell_how_current_it_is(pair: Pair) -> None:
    for server, knows in ((pair.primary, True), (pair.standby, False)):
        with connect(server.url(), application_name="test") as db:
            told = AsOf().of(lambda: nullcontext(db), find_source(db, "context_items"))
            assert (told is not None) == knows


def test_a_failover_between_claim_and_read_deletes_nothing_and_all_go_on_with_the_primary(
    pair: Pair, env: Mapping[str, str], index: IndexReader, tmp_path: Path
) -> None:
    with (
        Proxy("127.0.0.1", pair.primary.port) as postgres,
        Proxy.before(env["QDRANT_URL"]) as qdrant,
        Children(tmp_path / "logs") as children,
        connect(pair.primary.url(), application_name="test") as db,
    ):
        through = {
            "DATABASE_URL": postgres.instead(pair.primary.url()),
            "QDRANT_URL": qdrant.instead(env["QDRANT_URL"]),
        }
        processes = Processes(children, {**env, **through, "REINDEXER_LEASE_S": "6"})
        db.execute("TRUNCATE context_items")
        listener, worker = processes.listener(), processes.worker()
        for n in range(20):
            insert(db, f"text {n}")
        eventually(lambda: idle(db) and index.count() == 20, within=20)
        children.stop(worker)

        qdrant.mode = Mode.STALL
        before = qdrant.connections
        db.execute("UPDATE context_items SET content = content || ', edited'")
        worker = processes.worker()
        eventually(lambda: qdrant.connections > before and claimed(db) == 20, within=20)
        postgres.lead_to(pair.standby.port)
        qdrant.mode = Mode.PASS
        eventually(lambda: "standby" in log_of(worker) and "standby" in log_of(listener), within=20)
        assert index.count() == 20

        postgres.lead_to(pair.primary.port)
        eventually(lambda: idle(db), within=60)
        assert differences(db, index) == []
        assert (listener.running(), worker.running()) == (True, True)
        children.stop_together()


def claimed(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.due WHERE lease_until IS NOT NULL").fetchone()
    assert row is not None
    return int(row[0])
