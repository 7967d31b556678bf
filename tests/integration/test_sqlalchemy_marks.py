"""`reindexer.sqlalchemy.marked`: the mark is the session's own transaction's, and there is no token before its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.queue import marks
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sqlalchemy import Mark, marked
from reindexer.worker.worker import Worker
from tests.support.flow import work

COUNTED = """
CREATE TABLE marked (xact xid8 PRIMARY KEY);
ALTER FUNCTION reindexer.mark(text) RENAME TO mark_uncounted;
CREATE FUNCTION reindexer.mark(traceparent text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO marked VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN reindexer.mark_uncounted($1);
END $$;
"""
"""A mark writes nothing: so that marked transactions can be counted."""
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Base(DeclarativeBase):
    """Of this application."""


class Note(Base):
    """One table."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


@pytest.fixture
def engine(database: str, db: Connection) -> Iterator[sa.Engine]:
    made = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database))
    Base.metadata.create_all(made)
    db.execute(COUNTED)
    attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    yield made
    made.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    with Session(engine) as made:
        yield made


def state(db: Connection, mark: Mark) -> str:
    assert mark.token is not None
    return marks.states(db, [mark.token])[mark.token]


def transactions_marked(db: Connection) -> int:
    (count,) = db.execute("SELECT count(*) FROM marked").fetchone() or (0,)
    return int(count)


def test_what_a_session_commits_can_be_waited_for(session: Session, db: Connection, worker: Worker) -> None:
    with marked(session) as mark:
        session.add(Note(body="Tea"))
        assert mark.token is None
        session.commit()
        assert state(db, mark) == "waiting"
    work(db, worker)
    assert state(db, mark) == "indexed"


def test_what_is_flushed_only_by_the_commit_is_marked(engine: sa.Engine, db: Connection) -> None:
    with Session(engine, autoflush=False) as session, marked(session) as mark:
        session.add(Note(body="Tea"))
        session.commit()
    assert state(db, mark) == "waiting"


def test_savepoints_belong_to_the_transaction_around_them(session: Session, db: Connection) -> None:
    with marked(session) as mark:
        with session.begin_nested():
            session.add(Note(body="of a savepoint"))
        assert mark.token is None
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.add(Note(body="never"))
            session.flush()
            raise ZeroDivisionError
        session.add(Note(body="after it"))
        session.begin_nested()
        session.add(Note(body="of one that is open at the end"))
        assert mark.token is None
        session.commit()
    assert transactions_marked(db) == 1
    written = "SELECT DISTINCT xact::text FROM reindexer.outbox"
    assert mark.token is not None
    assert db.execute(written.encode()).fetchall() == [(mark.token.partition("-")[0],)]
    assert state(db, mark) == "waiting"


def test_a_transaction_that_is_rolled_back_has_no_token(session: Session, db: Connection) -> None:
    with marked(session) as mark:
        session.add(Note(body="never"))
        session.flush()
        session.rollback()
        with session.begin_nested():
            session.add(Note(body="nor this"))
        session.rollback()
    session.add(Note(body="after the block"))
    session.commit()
    assert (mark.token, transactions_marked(db)) == (None, 0)


def test_a_commit_that_fails_has_no_token(session: Session, db: Connection) -> None:
    """The mark is taken by then: the constraint is checked by the commit itself."""
    db.execute("ALTER TABLE notes ADD CONSTRAINT once UNIQUE (body) DEFERRABLE INITIALLY DEFERRED")
    with marked(session) as mark:
        session.add_all([Note(body="twice"), Note(body="twice")])
        with pytest.raises(sa.exc.IntegrityError):
            session.commit()
        session.rollback()
        assert mark.token is None
        session.commit()
    assert (mark.token, transactions_marked(db)) == (None, 0)


def test_what_only_reads_is_not_marked(session: Session, db: Connection) -> None:
    with marked(session) as mark:
        assert session.scalars(sa.select(Note)).all() == []
        session.commit()
    assert (mark.token, transactions_marked(db)) == (None, 0)


def test_what_is_written_past_the_orm_is_marked_with_the_trace_that_it_belongs_to(
    session: Session, db: Connection
) -> None:
    with marked(session, traceparent=TRACE) as mark:
        session.execute(sa.insert(Note).values(body="Core"))
        session.commit()
    assert state(db, mark) == "waiting"
    assert db.execute("SELECT traceparent FROM reindexer.mark").fetchone() == (TRACE,)


def test_the_block_may_be_within_the_transaction_or_around_it(session: Session, db: Connection) -> None:
    with session.begin():
        with marked(session) as within:
            session.add(Note(body="within"))
        assert within.token is None
        session.add(Note(body="after the block"))
    with marked(session) as around, session.begin():
        session.add(Note(body="around"))
    with session.begin():
        session.add(Note(body="of nobody"))
    assert within.token != around.token
    assert (state(db, within), state(db, around)) == ("waiting", "waiting")
    assert transactions_marked(db) == 2
    assert drain(db).changes == 4
    kept = "SELECT xact::text, count(*) FROM reindexer.drained, unnest(xacts) AS each (xact) JOIN marked USING (xact) GROUP BY 1"
    told = {str(each.token).partition("-")[0]: count for each, count in ((within, 2), (around, 1))}
    assert dict(db.execute(kept.encode()).fetchall()) == told


def test_a_token_stays_whatever_the_session_commits_after_the_block(session: Session, db: Connection) -> None:
    with marked(session) as mark:
        session.add(note := Note(body="Tea"))
        session.commit()
        assert note.id  # reads it anew, in the next transaction
    token = mark.token
    note.body = "Coffee"
    session.commit()
    assert mark.token == token is not None
    assert transactions_marked(db) == 1


def test_a_block_that_raises_marks_nothing(session: Session, db: Connection) -> None:
    with session.begin(), pytest.raises(ZeroDivisionError), marked(session) as mark:
        session.add(Note(body="x"))
        raise ZeroDivisionError
    assert (mark.token, transactions_marked(db)) == (None, 0)


def test_a_session_that_joins_a_transaction_of_its_connections_has_no_token_yet(
    engine: sa.Engine, db: Connection
) -> None:
    """As tests do that roll back whatever the application commits."""
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session, marked(session) as mark:
            session.add(Note(body="Tea"))
            session.commit()
        assert mark.token is None
        outer.rollback()
    assert transactions_marked(db) == 0


def test_a_scoped_session_is_marked_like_the_session_of_its_scope(engine: sa.Engine, db: Connection) -> None:
    scoped = scoped_session(sessionmaker(engine))
    with marked(scoped) as mark:
        scoped.add(Note(body="Tea"))
        scoped.commit()
    scoped.remove()
    assert state(db, mark) == "waiting"


def test_an_asynchronous_session_is_marked_too(engine: sa.Engine, database: str, db: Connection) -> None:
    async def write() -> Mark:
        made = create_async_engine(
            "postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(database)
        )
        async with AsyncSession(made) as session:
            with marked(session) as mark:
                session.add(Note(body="Tea"))
                async with session.begin_nested():
                    session.add(Note(body="Coffee"))
                await session.commit()
        await made.dispose()
        return mark

    mark = asyncio.run(write())
    assert state(db, mark) == "waiting"
    assert transactions_marked(db) == 1


def test_a_database_without_the_program_or_of_another_kind_has_nothing_to_wait_for(
    session: Session, db: Connection
) -> None:
    db.execute("DROP SCHEMA reindexer CASCADE")
    with marked(session) as mark:
        session.add(Note(body="Tea"))
        session.commit()
    assert mark.token is None
    with Session(sa.create_engine("sqlite://")) as other, marked(other) as mark:
        other.execute(sa.text("SELECT 1"))
        other.commit()
    assert mark.token is None


def test_a_schema_that_has_no_marks_yet_is_told_before_the_commit(session: Session, db: Connection) -> None:
    db.execute("DROP FUNCTION reindexer.mark")
    with marked(session):
        session.add(Note(body="Tea"))
        with pytest.raises(sa.exc.ProgrammingError, match=r"function reindexer\.mark"):
            session.commit()
    session.rollback()
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
