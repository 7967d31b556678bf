"""`as_of` of a search: each change that was committed before counts in the answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer import Client, api_keys, wiring
from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.index.as_of import MAX_LOOK_S, AsOf
from reindexer.listener.leader import Leader
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.settings import Settings
from reindexer.sources.attach import attach, mend
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.provider import FakeProvider, error, refuse_texts
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import Flow, insert, work
from tests.support.generations import made, settle
from tests.support.index_reader import IndexReader

NAME = "context_items"
KEY = {"X-API-Key": "test-admin-key"}


@pytest.fixture
def api(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY, raise_server_exceptions=False) as api:
        yield api


@pytest.fixture
def leader(broker: CeleryBroker) -> Leader:
    return Leader(Dispatch(broker, 256, 16), threading.Event(), 0.005, 1.0, lambda *_: None, MetricsBuffer())


def context_items(db: Connection) -> Source:
    return find_source(db, NAME)


def now(db: Connection) -> datetime:
    (at,) = db.execute("SELECT clock_timestamp()").fetchone() or (None,)
    assert isinstance(at, datetime)
    return at


def told(db: Connection, name: str = NAME, generation: int | None = None) -> datetime | None:
    return AsOf().of(lambda: nullcontext(db), find_source(db, name, generation))


def known(db: Connection, name: str = NAME) -> datetime:
    at = told(db, name)
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
    assert told(db) is None, "the walk has not begun"
    while walk_page(db, lambda name, _: find_source(db, name)):
        assert told(db) is None
    settle(db, worker)
    assert is_up_to_date(db)


@pytest.mark.parametrize("forced", [False, True], ids=["a look", "a forced backfill"])
def test_nothing_is_known_while_a_lost_collection_is_written_again(
    db: Connection, worker: Worker, index: IndexReader, forced: bool
) -> None:
    insert(db, "text")
    work(db, worker)
    index.client.delete_collection("context_items__g1")
    if forced:
        runs.start(db, context_items(db), force=True, who="test")
    insert(db, "more")
    work(db, worker)
    db.execute("UPDATE reindexer.due SET not_before = now()")
    work(db, worker)
    assert index.count() < 2
    assert told(db) is None
    settle(db, worker)
    assert index.count() == 2
    assert is_up_to_date(db)


def test_nothing_is_known_while_all_rows_are_looked_at_after_triggers_were_off(db: Connection, worker: Worker) -> None:
    db.execute("ALTER TABLE context_items DISABLE TRIGGER ALL")
    insert(db, "unseen")
    source = context_items(db)
    mend(db, source, inspect(db, source))
    assert told(db) is None
    settle(db, worker)
    assert is_up_to_date(db)


def test_nothing_is_known_of_a_generation_that_is_being_filled(
    db: Connection, worker: Worker, settings: Settings, api: TestClient
) -> None:
    insert(db, "text")
    settle(db, worker)
    made(db, settings, worker)
    assert told(db, generation=2) is None
    db.execute("DELETE FROM reindexer.run WHERE kind = 'rebuild'")  # as before its fill has begun
    answer = api.post("/search", json={"query": "text", "generation": 2}).json()
    assert answer == {"hits": [], "as_of": None}
    assert is_up_to_date(db), "the one that searches use"


BOOKS = Source(
    "books", "public", "books", ("id",), ("title", "author.name"),
    related=(Related("author", (Link("public", "authors", ("author_id",), ("id",)),), key_columns=("id",)),),
)  # fmt: skip


@pytest.mark.parametrize("by_timer", [False, True])
def test_a_change_of_a_related_row_counts_until_its_items_are_settled(
    db: Connection, worker: Worker, index: IndexReader, leader: Leader, by_timer: bool
) -> None:
    """Its items come to the outbox later than a drain that has found all that is there."""
    db.execute("CREATE TABLE authors (id int PRIMARY KEY, name text)")
    db.execute("CREATE TABLE books (id int PRIMARY KEY, author_id int, title text)")
    db.execute("INSERT INTO authors VALUES (1, 'Han'); INSERT INTO books VALUES (1, 1, 'one')")
    attach(db, BOOKS)
    eventually(Flow(db, worker).settles)
    db.execute("UPDATE authors SET name = 'Han Kang'")
    committed = now(db)
    assert known(db, "books") < committed
    if by_timer:
        drain(db)
        assert known(db, "books") < committed, "a value waits"
        leader.drain_all(db)
        leader._on_timers(db, time.monotonic())
    leader.drain_all(db)
    assert idle_outbox(db)
    assert known(db, "books") < committed
    index.client.delete_collection("books__g1")


def idle_outbox(db: Connection) -> bool:
    row = db.execute("SELECT (SELECT count(*) FROM reindexer.outbox) + (SELECT count(*) FROM reindexer.fan_out)")
    return row.fetchone() == (0,)


def test_a_change_that_a_drain_passed_over_counts_from_its_commit(
    db: Connection, database: str, leader: Leader
) -> None:
    """A detach or a forget may hold it, and be rolled back."""
    insert(db, "text")
    committed = now(db)
    with connect(database, application_name="migration") as migration:
        migration.autocommit = False
        migration.execute("SELECT FROM reindexer.outbox FOR UPDATE")
        assert leader.drain_all(db) is False
        migration.rollback()
    assert leader.drain_all(db)
    assert known(db) < committed


def test_a_source_knows_nothing_until_its_first_fill_is_through_and_others_do(
    db: Connection, worker: Worker, settings: Settings, api: TestClient
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'tea')")
    with Client(settings) as client:
        before = now(db)
        client.attach("notes", table="notes", text="body")
        assert client.search("notes", "tea").as_of is None
        assert client.search(["notes", NAME], "tea").as_of is None
        assert is_up_to_date(db)
        both = {"sources": ["notes", NAME], "query": "tea"}
        assert api.post("/search", json=both).json()["as_of"] is None
        settle(db, worker)
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


def waits_for_lock(db: Connection) -> bool:
    return db.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None


def look_slowly(as_of: AsOf, db: Connection, database: str, name: str = NAME) -> None:
    with connect(database, application_name="searches") as searching, ThreadPoolExecutor(1) as pool:
        source = find_source(db, name)
        with Obstacle(database):
            looking = pool.submit(as_of.of, lambda: nullcontext(searching), source)
            eventually(lambda: waits_for_lock(db))
            time.sleep(0.5)
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

        def answers(after: str | None = None) -> list[datetime | None]:
            answer = api.post("/search", json={"query": "text", "after": after}).json()
            return [datetime.fromisoformat(answer["as_of"]), client.search(NAME, "text", after=after).as_of]

        first = answers()
        with db.transaction():
            (token,) = db.execute("SELECT reindexer.mark()").fetchone() or ("",)
            insert(db, "marked")
        committed = now(db)
        work(db, worker)
        assert answers() == first
        assert all(each is not None and each > committed for each in answers(token))


def test_what_was_told_of_a_source_is_not_told_of_the_next_one_of_its_name(
    db: Connection, worker: Worker, settings: Settings, database: str
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    with Client(settings) as client:
        client.attach("notes", table="notes", text="body")
        settle(db, worker)
        look_slowly(client._searching().as_of, db, database, "notes")
        client.detach("notes", drop_collection=True)
        db.execute("INSERT INTO notes VALUES (1, 'tea')")
        client.attach("notes", table="notes", text="body")
        settle(db, worker)
        assert client.search("notes", "tea").as_of is None
        assert known(db, "notes") < now(db)


def test_no_search_waits_for_anothers_look_or_long_for_its_own(db: Connection, worker: Worker, database: str) -> None:
    as_of, source = AsOf(), context_items(db)
    first = as_of.of(lambda: nullcontext(db), source)
    assert first is not None
    with connect(database, application_name="searches") as searching, Obstacle(database), ThreadPoolExecutor(1) as pool:
        looking = pool.submit(as_of.of, lambda: nullcontext(searching), source, time.monotonic())
        eventually(lambda: waits_for_lock(db))
        assert as_of.of(lambda: nullcontext(db), source) == first
        assert not looking.done(), "it was not waited for"
        began = time.monotonic()
        assert looking.result() is None
        assert told(db) is None
        assert time.monotonic() - began < 3 * MAX_LOOK_S
    assert is_up_to_date(db)


def test_many_searches_after_marks_share_a_look_and_leave_connections_to_others(
    db: Connection, worker: Worker, settings: Settings, database: str
) -> None:
    as_of, source, postgres = AsOf(), context_items(db), wiring.postgres(settings, "searches")
    assert as_of.of(postgres.connection, source) is not None
    with ThreadPoolExecutor(40) as pool:
        with Obstacle(database):
            began = time.monotonic()
            looking = [pool.submit(as_of.of, postgres.connection, source, began) for _ in range(40)]
            eventually(lambda: waits_for_lock(db))
            with postgres.connection() as connection:
                connection.execute("SELECT 1")
            assert time.monotonic() - began < MAX_LOOK_S, "no other statement waits with them"
        found = {each.result() for each in looking}
    assert len(found) == 1, "they looked one after the other"
    assert None not in found
    postgres.close()


def test_a_look_that_fails_fails_no_search(db: Connection, database: str) -> None:
    source = context_items(db)
    with connect(database, application_name="searches") as searching:
        searching.execute("SET lock_timeout = '50ms'")  # as a role may have it, behind a pooler
        with Obstacle(database):
            assert AsOf().of(lambda: nullcontext(searching), source) is None
        assert AsOf().of(lambda: nullcontext(searching), source) is not None


def test_a_key_with_a_filter_is_not_told_when_others_edit(db: Connection, settings: Settings, api: TestClient) -> None:
    key = api_keys.create(db, "tea", who="test", role="search", source=NAME, where={"metadata.lang": "en"}).key
    with TestClient(create_app(settings.model_copy(update={"search_open": True}))) as other:
        asked = {"query": "text"}
        assert "as_of" in api.post("/search", json=asked).json()
        assert "as_of" not in other.post("/search", json=asked).json()
        assert "as_of" not in other.post("/search", json=asked, headers={"X-API-Key": key}).json()


def test_a_role_that_may_not_read_what_waits_searches_without_it(db: Connection) -> None:
    db.execute("CREATE ROLE reads_little")
    try:
        db.execute("GRANT USAGE ON SCHEMA reindexer TO reads_little")
        db.execute("GRANT SELECT ON reindexer.source, reindexer.generation TO reads_little")
        source = context_items(db)
        db.execute("SET ROLE reads_little")
        assert AsOf().of(lambda: nullcontext(db), source) is None
        assert find_source(db, NAME) == source, "its connection is well"
    finally:
        db.execute("RESET ROLE")
        db.execute("DROP OWNED BY reads_little; DROP ROLE reads_little")
