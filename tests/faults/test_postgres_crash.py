"""A server that loses what it has not written yet, and one that is no primary."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reindexer.core.errors import UsageError
from reindexer.embedded.children import Children
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.flow.claim import claim_batch
from reindexer.flow.drain import drain
from reindexer.migrate import migrate
from reindexer.postgres.connect import connect
from reindexer.postgres.schema import require_schema
from tests.integration.test_drain_to_settle import insert
from tests.support.servers import FAST

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

    def become_a_standby(self) -> None:
        assert self._running is not None
        self._children.stop(self._running.child)
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        os.chown(signal_file, self._data.stat().st_uid, self._data.stat().st_gid)
        self.start()


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="rxc-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with Children(directory / "logs") as children:
            yield Server(children, directory / "data")


def test_a_claim_is_on_disk_before_anybody_works_on_it_whatever_the_server_is_set_to(server: Server) -> None:
    """Were it lost in a crash, its token would be handed out again."""
    with connect(server.url, application_name="test") as db:
        item_id = insert(db, "text")
        drain(db)
        taken = claim_batch(db, "live", 10, 60)
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
