"""Two versions of the program on one database. The newer one is a copy of this checkout with a migration of its own, or
with other trigger functions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from reindexer.core.lanes import Lane
from reindexer.embedded.children import Child, Children
from reindexer.postgres.connect import Connection
from reindexer.postgres.schema import REVISION
from reindexer.queue.claim import claim_batch, claim_item
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, Postponed, finish, postpone
from reindexer.sources.store import all_sources
from reindexer.sources.trigger_check import inspect
from reindexer.testing.processes import log_of
from reindexer.testing.provider import Call, FakeProvider
from reindexer.testing.waiting import eventually
from tests.support.comparison import differences
from tests.support.flow import idle, insert
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes

NEWER = "0999"

MIGRATION = f'''
from alembic import op
revision, down_revision, branch_labels, depends_on = "{NEWER}", "{REVISION}", None, None

def upgrade() -> None:
    op.execute("ALTER TABLE reindexer.ledger ADD COLUMN newer text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE reindexer.due ADD COLUMN newer text NOT NULL DEFAULT ''")

def downgrade() -> None: ...
'''


class Newer:
    """A newer version of the program, in a folder of its own."""

    def __init__(self, root: Path, children: Children, env: Mapping[str, str]) -> None:
        self.root = root
        for package in ("reindexer", "api", "migrations"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.processes = Processes(children, {**env, "PYTHONPATH": str(root)}, root)
        self._env = {**os.environ, **env, "PYTHONPATH": str(root)}

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def migrate(self) -> None:
        command = [sys.executable, "-m", "reindexer", "migrate"]
        subprocess.run(command, cwd=self.root, env=self._env, check=True, capture_output=True)


@pytest.fixture
def newer(tmp_path: Path, env: Mapping[str, str]) -> Iterator[Newer]:
    with Children(tmp_path / "newer-logs") as children:
        yield Newer(tmp_path / "newer", children, env)
        children.stop_together()


@pytest.fixture
def newer_schema(newer: Newer) -> Newer:
    newer.replace("reindexer/postgres/schema.py", f'REVISION = "{REVISION}"', f'REVISION = "{NEWER}"')
    (newer.root / "migrations/versions/0999_newer.py").write_text(MIGRATION, encoding="utf-8")
    return newer


def test_no_claim_is_made_and_none_is_settled_once_the_schema_is_another_versions(db: Connection) -> None:
    insert(db, "first")
    drain(db)
    held = claim_batch(db, Lane.LIVE, 10, 60)
    assert held is not None
    second = insert(db, "second")
    drain(db)
    db.execute("UPDATE reindexer.alembic_version SET version_num = %s", [NEWER])
    assert claim_batch(db, Lane.LIVE, 10, 60) is None
    assert claim_item(db, "context_items", second, 10, 60) is None
    assert finish(db, held, [Finished(held.items[0], "COMPLETED", "x", "y", 1)]).item_ids == ()
    postpone(db, held, [Postponed(held.items[0], 0.0, "late")])
    assert db.execute("SELECT count(*) FROM reindexer.ledger").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM reindexer.due WHERE lease_until IS NOT NULL").fetchone() == (1,)
    db.execute("UPDATE reindexer.alembic_version SET version_num = %s", [REVISION])
    assert claim_item(db, "context_items", second, 10, 60) is not None
    assert len(finish(db, held, [Finished(held.items[0], "COMPLETED", "x", "y", 1)]).item_ids) == 1


@pytest.mark.parametrize(
    "pool", ["prefork", *(pytest.param(each, marks=pytest.mark.long) for each in ("solo", "threads"))]
)
@pytest.mark.long
def test_an_older_worker_beside_a_migrated_schema_claims_and_settles_nothing_and_ends_with_one_line(
    db: Connection, newer_schema: Newer, processes: Processes, index: IndexReader, provider: FakeProvider, pool: str
) -> None:
    migrated = threading.Event()

    def answers_when_it_is_migrated(call: Call) -> None:
        migrated.wait(60)

    provider.behave = answers_when_it_is_migrated
    listener, standby = processes.listener(), processes.listener()
    worker = processes.worker(pool=pool, REINDEXER_LEASE_S="10")
    for n in range(5):
        insert(db, f"text {n}")
    eventually(lambda: provider.calls)
    newer_schema.migrate()
    migrated.set()
    db.execute("UPDATE context_items SET content = content || ', edited'")
    insert(db, "written after the migration")
    for old in (listener, standby, worker):
        assert old.process.wait(30) == 2
        says = [line for line in log_of(old).splitlines() if line.startswith("reindexer ")]
        assert len(says) == 1
        assert f"is at schema revision {NEWER}, this program needs {REVISION}" in says[0]
        assert "Traceback" not in log_of(old)
    assert db.execute("SELECT count(*) FROM reindexer.ledger").fetchone() == (0,), "nothing was settled"

    newer_schema.processes.listener()
    newer_schema.processes.worker(REINDEXER_LEASE_S="10")
    eventually(lambda: idle(db), within=30)
    assert differences(db, index) == []


def _ended(old: Child) -> bool:
    return old.process.poll() == 2


@pytest.mark.long
def test_processes_that_can_no_longer_read_the_schema_notice_that_it_is_another_versions_and_end(
    db: Connection, processes: Processes
) -> None:
    """Their statements fail before one comes to look at the revision; and a leader that stays keeps the next one out."""
    listener, worker = processes.listener(), processes.worker()
    with db.transaction():
        db.execute("DROP INDEX reindexer.run_open")
        db.execute("ALTER TABLE reindexer.due DROP COLUMN marked CASCADE")
        db.execute("UPDATE reindexer.alembic_version SET version_num = %s", [NEWER])
    insert(db, "text")
    for old in (listener, worker):
        eventually(partial(_ended, old), within=30)
        assert f"is at schema revision {NEWER}, this program needs {REVISION}" in log_of(old)


@pytest.mark.long
def test_two_versions_that_differ_in_their_triggers_do_not_undo_each_other(
    db: Connection, newer: Newer, processes: Processes, index: IndexReader
) -> None:
    """Of one schema revision, so that the older one goes on."""
    newer.replace("reindexer/postgres/sql/triggers.sql", "    RETURN NULL;", "    RETURN NULL; -- newer")
    listener = processes.listener(REINDEXER_TRIGGER_CHECK_S="0.2")
    processes.worker()
    insert(db, "before")
    newer.migrate()
    eventually(lambda: "made by another version" in log_of(listener))
    insert(db, "recorded by the newer functions")
    db.execute("UPDATE context_items SET title = 'edited'")
    eventually(lambda: idle(db) and not differences(db, index), within=20)
    assert [inspect(db, source).mendable for source in all_sources(db)] == [False]
    bodies = db.execute("SELECT bool_and(prosrc LIKE '%-- newer%') FROM pg_proc WHERE proname LIKE 'context_items%'")
    assert bodies.fetchone() == (True,)
    assert log_of(listener).count("made by another version") == 1
