"""`as_of` of a search: each change that was committed before counts in the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer import Client
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.index.as_of import MAX_LOOK_S, AsOf
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, refuse_texts
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert, work
from tests.support.generations import settle
from tests.support.index_reader import IndexReader

NAME = "context_items"
KEY = {"X-API-Key": "test-admin-key"}


@pytest.fixture
def api(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as api:
        yield api


def context_items(db: Connection) -> Source:
    return find_source(db, NAME)


def now(db: Connection) -> datetime:
    (at,) = db.execute("SELECT clock_timestamp()").fetchone() or (None,)
    assert isinstance(at, datetime)
    return at


def known(db: Connection, name: str = NAME) -> datetime:
    at = AsOf().of(db, find_source(db, name))
    assert at is not None
    return at


def is_up_to_date(db: Connection) -> bool:
    before = now(db)
    return before <= known(db) <= now(db)


def edit(db: Connection, text: str) -> datetime:
    """Returns a moment after the commit."""
    db.execute("UPDATE context_items SET content = %s", [text])
    return now(db)


def test_a_change_counts_from_its_commit_until_it_is_in_the_index(db: Connection, worker: Worker) -> None:
    assert is_up_to_date(db)
    insert(db, "text")
    committed = now(db)
    assert known(db) < committed, "it is in the outbox"
    drain(db)
    assert known(db) < committed, "it is due"
    claim = claim_batch(db, Lane.LIVE, 10, 60)
    assert claim is not None
    assert known(db) < committed, "it is claimed"
    later = edit(db, "newer")
    drain(db)
    finish(db, claim, [Finished(item, "COMPLETED") for item in claim.items])
    assert committed < known(db) < later, "of two edits, the first is settled"
    work(db, worker)
    assert is_up_to_date(db)


def test_an_open_transaction_holds_nothing_up_and_counts_once_it_commits(db: Connection, database: str) -> None:
    with connect(database, application_name="writer") as writer, writer.transaction():
        insert(writer, "text")
        assert is_up_to_date(db)
    assert known(db) < now(db)
    assert not is_up_to_date(db)


def test_what_fails_for_a_while_counts_and_what_failed_for_good_does_not(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(503)
    insert(db, "text")
    committed = now(db)
    drain(db)
    while state_of_everything(db).healing == 0:
        worker.run_lane(Lane.LIVE, budget_s=0)
    assert known(db) < committed
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert is_up_to_date(db)
    provider.behave = refuse_texts
    insert(db, "refused")
    work(db, worker)
    assert state_of_everything(db).failed == 1
    assert is_up_to_date(db)


def test_a_truncate_counts_until_the_last_point_is_gone(db: Connection, worker: Worker) -> None:
    insert(db, "text")
    work(db, worker)
    db.execute("TRUNCATE context_items")
    committed = now(db)
    assert known(db) < committed
    drain(db)
    assert known(db) < committed, "the walk has not begun"
    while walk_page(db, lambda name, _: find_source(db, name)):
        assert known(db) < committed
    settle(db, worker)
    assert is_up_to_date(db)


def test_a_source_knows_nothing_until_its_first_fill_is_through_and_others_do(
    db: Connection, worker: Worker, settings: Settings, api: TestClient
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'tea')")
    with Client(settings) as client:
        client.attach("notes", table="notes", text="body")
        assert client.search("notes", "tea").as_of is None
        assert client.search(["notes", NAME], "tea").as_of is None
        assert is_up_to_date(db)
        both = {"sources": ["notes", NAME], "query": "tea"}
        assert api.post("/search", json=both).json()["as_of"] is None
        settle(db, worker)
        before = now(db)
        assert client.search("notes", "tea").as_of is not None
        assert datetime.fromisoformat(api.post("/search", json=both).json()["as_of"]) > before
        insert(db, "of another source")
        waits_since = now(db)
        assert known(db, "notes") > waits_since
        as_of = client.search(["notes", NAME], "tea").as_of
        assert as_of is not None
        assert as_of < waits_since, "of several sources, the one that is furthest behind"


def test_every_way_to_search_tells_it_in_the_same_words(
    db: Connection,
    worker: Worker,
    settings: Settings,
    api: TestClient,
    here: Callable[..., Done],
    env: Mapping[str, str],
) -> None:
    item_id = insert(db, "tea")
    insert(db, "more tea")
    committed = now(db)
    work(db, worker)

    def tells(as_of: datetime | None) -> bool:
        return as_of is not None and committed < as_of <= now(db)

    for route, asked in (("/search", {"query": "tea"}), ("/similar", {"item_id": item_id})):
        assert tells(datetime.fromisoformat(api.post(route, json=asked).json()["as_of"]))
    with Client(settings) as client:
        assert tells(client.search(NAME, "tea").as_of)
        assert tells(client.similar(NAME, item_id).as_of)
    for words in (["search", NAME, "tea"], ["similar", NAME, item_id]):
        assert tells(datetime.fromisoformat(json.loads(here(*words, "--json", env=env).stdout)["as_of"]))


class Obstacle:
    """A lock on what a look reads. A look takes long where millions wait; here it waits for this."""

    def __init__(self, database: str) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._connection = connect(self._database, application_name="locks")
        self._connection.autocommit = False
        self._connection.execute("LOCK TABLE reindexer.fan_out IN ACCESS EXCLUSIVE MODE")

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def look_slowly(as_of: AsOf, db: Connection, database: str, took_s: float = 0.5) -> None:
    with connect(database, application_name="searches") as searching, ThreadPoolExecutor(1) as pool:
        with Obstacle(database):
            looking = pool.submit(as_of.of, searching, context_items(db))
            eventually(lambda: db.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
            time.sleep(took_s)
        assert looking.result() is not None


def test_a_look_that_takes_long_serves_many_searches_but_none_after_a_mark(
    db: Connection, worker: Worker, settings: Settings, api: TestClient, database: str
) -> None:
    insert(db, "text")
    work(db, worker)
    app: Any = api.app
    with Client(settings) as client:
        for as_of in (app.state.parts.searcher.as_of, client._searching().as_of):
            look_slowly(as_of, db, database)

        def told(after: str | None = None) -> list[datetime | None]:
            answer = api.post("/search", json={"query": "text", "after": after}).json()
            return [datetime.fromisoformat(answer["as_of"]), client.search(NAME, "text", after=after).as_of]

        first = told()
        with db.transaction():
            (token,) = db.execute("SELECT reindexer.mark()").fetchone() or ("",)
            insert(db, "marked")
        committed = now(db)
        work(db, worker)
        assert told() == first
        assert all(each is not None and each > committed for each in told(token))


def test_no_search_waits_for_anothers_look_or_long_for_its_own(db: Connection, worker: Worker, database: str) -> None:
    as_of, source = AsOf(), context_items(db)
    first = as_of.of(db, source)
    assert first is not None
    with connect(database, application_name="searches") as searching, Obstacle(database), ThreadPoolExecutor(1) as pool:
        looking = pool.submit(as_of.of, searching, source, anew=True)
        eventually(lambda: db.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
        assert as_of.of(db, source) == first
        assert not looking.done(), "it was not waited for"
        began = time.monotonic()
        assert looking.result() == first, "what was told before stays true"
        assert AsOf().of(db, source) is None
        assert time.monotonic() - began < 3 * MAX_LOOK_S
    assert is_up_to_date(db)


def test_a_role_that_may_not_read_what_waits_searches_without_it(db: Connection) -> None:
    db.execute("CREATE ROLE reads_little")
    try:
        db.execute("GRANT USAGE ON SCHEMA reindexer TO reads_little")
        db.execute("GRANT SELECT ON reindexer.source, reindexer.generation TO reads_little")
        source = context_items(db)
        db.execute("SET ROLE reads_little")
        assert AsOf().of(db, source) is None
        assert find_source(db, NAME) == source, "its connection is well"
    finally:
        db.execute("RESET ROLE")
        db.execute("DROP OWNED BY reads_little; DROP ROLE reads_little")
