"""A Postgres of a test's own that can be restarted and crashed, and somebody who edits rows meanwhile."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from reindexer.embedded.children import Children
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.testing.waiting import eventually

LAZY = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "shared_buffers": "32MB",
        "max_connections": "50", "autovacuum": "off"}  # fmt: skip


@dataclass(slots=True)
class Server:
    """A Postgres that can be restarted and crashed."""

    children: Children
    data: Path
    port: int
    running: EmbeddedPostgres

    @classmethod
    def make(cls, children: Children, data: Path, port: int) -> Server:
        """Start a new one."""
        return cls(children, data, port, start_postgres(children, data, port=port, settings=LAZY))

    @property
    def url(self) -> str:
        """Where it is."""
        return self.running.url()

    def start(self) -> None:
        """On the data that is there."""
        self.running = start_postgres(self.children, self.data, port=self.port, settings=LAZY)

    def restart(self) -> None:
        """As `pg_ctl restart -m fast`: the running statements are ended, and nothing that is committed is lost."""
        self.children.stop(self.running.child)
        self.start()

    def crash(self) -> None:
        """SIGKILL to every process at once, as when the machine's power fails; then recovery."""
        killed = [psutil.Process(self.running.child.process.pid)]
        killed[0].suspend()  # so that it starts no further process
        killed += killed[0].children()
        for each in killed[1:]:
            with suppress(psutil.NoSuchProcess):
                each.suspend()  # so that none writes anything while the others die
        for each in killed:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.children.kill(self.running.child)
        psutil.wait_procs(killed, timeout=5)
        self.start()


class Writer(threading.Thread):
    """Edits rows until told to stop, each with an asynchronous commit; what fails is tried again as another edit."""

    def __init__(self, url: str, rows: int) -> None:
        super().__init__(daemon=True)
        self.edits = 0
        self._url = url
        self._rows = rows
        self._ending = threading.Event()

    def run(self) -> None:
        """See Thread."""
        while not self._ending.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection:
                while not self._ending.wait(0.005):
                    self._edit(connection)
                    self.edits += 1
            self._ending.wait(0.05)

    def edit_further(self, edits: int) -> None:
        """Wait until so many more edits are committed."""
        wanted = self.edits + edits
        try:
            eventually(lambda: self.edits >= wanted, within=30)
        except AssertionError as error:
            told = f"{wanted - self.edits} of {edits} edits are missing; the writer lives: {self.is_alive()}"
            raise AssertionError(f"{told}; in Postgres: {self._sessions()}") from error

    def stop(self) -> None:
        """No further edit."""
        self._ending.set()
        self.join()

    def _sessions(self) -> list[tuple[object, ...]]:
        with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(
                "SELECT pid, pg_blocking_pids(pid), state, wait_event, clock_timestamp() - xact_start, query"
                " FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ).fetchall()

    def _edit(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        number = self.edits % self._rows
        if self.edits % 7 == 3:
            connection.execute("DELETE FROM context_items WHERE title = %s", [f"row {number}"])
        elif (
            self.edits % 7 == 5
            or connection.execute(
                "UPDATE context_items SET content = %s WHERE title = %s", [f"edit {self.edits}", f"row {number}"]
            ).rowcount
            == 0
        ):
            connection.execute(
                "INSERT INTO context_items (title, content) VALUES (%s, %s)", [f"row {number}", f"edit {self.edits}"]
            )
