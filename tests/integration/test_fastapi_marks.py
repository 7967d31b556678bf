"""`reindexer.fastapi`: the mark of what a request committed goes out with its response, and comes back with another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from reindexer.core.source import Source
from reindexer.fastapi import AfterMark, Mark, mark_of
from reindexer.postgres.connect import Connection
from reindexer.queue import marks
from reindexer.sources.attach import attach

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
INSERT = sa.text("INSERT INTO notes (body) VALUES (:body)")


@pytest.fixture
def client(database: str, db: Connection) -> Iterator[TestClient]:
    db.execute("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
    attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    with TestClient(application(database)) as client:
        yield client


def application(url: str) -> FastAPI:
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=sa.NullPool)
    asynchronous = create_async_engine(
        "postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(url), poolclass=sa.NullPool
    )

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    async def get_async_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(asynchronous) as session:
            yield session

    get_mark, get_async_mark = mark_of(get_session), mark_of(get_async_session)
    app = FastAPI()

    @app.post("/notes")
    def add(
        body: str, keep: bool = True, session: Session = Depends(get_session), mark: Mark = Depends(get_mark)
    ) -> str:
        session.execute(INSERT, {"body": body})
        assert mark.token is None
        session.commit() if keep else session.rollback()
        return str(mark.token)

    @app.post("/notes/async")
    async def add_async(
        body: str, session: AsyncSession = Depends(get_async_session), mark: Mark = Depends(get_async_mark)
    ) -> str:
        await session.execute(INSERT, {"body": body})
        await session.commit()
        return str(mark.token)

    @app.get("/notes/search")
    def search(after: AfterMark = None) -> str:
        return str(after)

    return app


@pytest.mark.parametrize("route", ["/notes", "/notes/async"])
@pytest.mark.first(1)
def test_a_response_has_the_mark_of_what_its_request_committed_and_another_request_brings_it_back(
    client: TestClient, db: Connection, route: str
) -> None:
    sent = client.post(route, params={"body": "Tea"}, headers={"traceparent": TRACE})
    token = sent.headers["Reindexer-Mark"]
    assert sent.json() == token
    assert marks.states(db, [token]) == {token: "waiting"}
    assert db.execute("SELECT traceparent FROM reindexer.mark").fetchone() == (TRACE,)
    assert client.get("/notes/search", headers={"Reindexer-Mark": token}).json() == token
    assert client.get("/notes/search").json() == "None"


def test_a_response_to_what_was_rolled_back_has_no_mark(client: TestClient) -> None:
    sent = client.post("/notes", params={"body": "Tea", "keep": False})
    assert (sent.json(), sent.headers.get("Reindexer-Mark")) == ("None", None)


def test_what_is_no_traceparent_is_not_kept(client: TestClient, db: Connection) -> None:
    assert client.post("/notes", params={"body": "Tea"}, headers={"traceparent": "x" * 5000}).status_code == 200
    assert db.execute("SELECT count(*) FROM reindexer.mark").fetchone() == (0,)


def test_each_request_has_a_mark_of_its_own_and_the_schema_tells_what_to_send(client: TestClient) -> None:
    tokens = {client.post("/notes", params={"body": each}).headers["Reindexer-Mark"] for each in "abc"}
    assert len(tokens) == 3
    paths = client.get("/openapi.json").json()["paths"]
    assert [each["name"] for each in paths["/notes/search"]["get"]["parameters"]] == ["Reindexer-Mark"]
    assert {each["name"] for each in paths["/notes"]["post"]["parameters"]} == {"body", "keep"}
