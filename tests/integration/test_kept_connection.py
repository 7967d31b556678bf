"""A connection that is kept for the next question, as long as there is one."""

from __future__ import annotations

import time

import psycopg
import pytest

from api.kept_connection import IDLE_S, KeptConnection
from reindexer.core.errors import DependencyUnavailable
from reindexer.postgres.connect import Connection

NAME = "kept for a test"


def pid_of(connection: Connection) -> int:
    return connection.info.backend_pid


def sessions(db: Connection) -> list[int]:
    return [pid for (pid,) in db.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", [NAME])]


@pytest.fixture
def kept(database: str) -> KeptConnection:
    return KeptConnection(database, NAME, answer_s=10)


def test_one_connection_answers_many_questions_and_ends_when_there_are_none(
    kept: KeptConnection, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = {kept.ask(pid_of) for _ in range(5)}
    assert len(pids) == 1
    kept.rest()
    assert sessions(db) == [*pids]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + IDLE_S)
    kept.rest()
    monkeypatch.undo()
    assert kept.ask(pid_of) not in pids
    kept.close()
    with pytest.raises(DependencyUnavailable):
        KeptConnection("postgresql://nobody@127.0.0.1:1/x", NAME, answer_s=10).ask(pid_of)


def test_a_server_that_was_restarted_is_asked_again_at_once(kept: KeptConnection, db: Connection) -> None:
    first = kept.ask(pid_of)
    db.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert kept.ask(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    assert kept.ask(pid_of) != first
    kept.close()


def test_a_question_that_fails_is_not_asked_twice_and_leaves_nothing_behind(
    kept: KeptConnection, db: Connection
) -> None:
    kept.ask(pid_of)
    asked = []

    def wrong(connection: Connection) -> None:
        asked.append(pid_of(connection))
        connection.execute("BEGIN; SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        kept.ask(wrong)
    assert len(asked) == 1
    assert kept.ask(lambda connection: connection.info.transaction_status) == psycopg.pq.TransactionStatus.IDLE
    kept.close()
