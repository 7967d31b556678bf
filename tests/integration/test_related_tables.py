"""A source whose rows are read with those of other tables: each change of any of them is in the index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from qdrant_client import QdrantClient
from structlog.testing import capture_logs

from reindexer.backfills.fan_out import fan_out
from reindexer.core.errors import GenerationConflict
from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.generations import lifecycle, promotion
from reindexer.listener.trigger_monitor import Watch
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.queries import load
from reindexer.postgres.trigger_removal import remove_former
from reindexer.queue import marks
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources import condition
from reindexer.sources.attach import attach, follow_renames, mend
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import Flow
from tests.support.generations import AT_ONCE as NOW
from tests.support.generations import SOON
from tests.support.index_reader import IndexReader

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.publishers (id int PRIMARY KEY, city text);
CREATE TABLE shop.authors (id int PRIMARY KEY, name text, country text, notes text, publisher_id int REFERENCES shop.publishers);
CREATE INDEX ON shop.authors (publisher_id);
CREATE TABLE shop.books (id int PRIMARY KEY, title text, author_id int REFERENCES shop.authors ON DELETE SET NULL);
CREATE INDEX ON shop.books (author_id);
CREATE TABLE shop.tags (id int PRIMARY KEY, label text, hidden boolean NOT NULL DEFAULT false);
CREATE TABLE shop.book_tags (
    book_id int REFERENCES shop.books ON DELETE CASCADE, tag_id int REFERENCES shop.tags ON DELETE CASCADE,
    PRIMARY KEY (book_id, tag_id));
CREATE INDEX ON shop.book_tags (tag_id);
CREATE TABLE shop.groups (book_id int, id int, PRIMARY KEY (book_id, id));
INSERT INTO shop.publishers VALUES (1, 'Seoul'), (2, 'Busan');
INSERT INTO shop.authors VALUES (1, 'Han', 'KR', 'a', 1), (2, 'Kim', 'KR', 'b', 2), (3, 'Lee', 'US', 'c', NULL);
INSERT INTO shop.books VALUES (1, 'one', 1), (2, 'two', 1), (3, 'three', 2), (4, 'four', NULL);
INSERT INTO shop.tags VALUES (1, 'red', false), (2, 'blue', false), (3, 'secret', true);
INSERT INTO shop.book_tags VALUES (1, 1), (1, 2), (2, 2), (3, 3);
INSERT INTO shop.groups VALUES (1, 7), (1, 8), (2, 7);
"""

AUTHOR = Related("author", (Link("shop", "authors", ("author_id",), ("id",)),), key_columns=("id",))
TAGS = Related(
    "tags",
    (Link("shop", "book_tags", ("id",), ("book_id",)), Link("shop", "tags", ("tag_id",), ("id",))),
    many=True,
    key_columns=("id",),
    order=("label",),
    separator=" 50% ",
    condition="NOT hidden",
    condition_columns=("hidden",),
)
PUBLISHER = Related(
    "publisher", (Link("shop", "publishers", ("publisher_id",), ("id",)),), of="author", key_columns=("id",)
)
GROUPS = Related(
    "groups", (Link("shop", "groups", ("id",), ("book_id",)),), many=True, key_columns=("book_id", "id"), order=("id",)
)
BOOKS = Source(
    "books",
    "shop",
    "books",
    ("id",),
    ("title", "author.name", "tags.label"),
    ("author.country", "publisher.city", "groups.id"),
    related=(AUTHOR, TAGS, PUBLISHER, GROUPS),
)
ORACLE = """
SELECT b.id::text,
       concat_ws(E'\\n', nullif(b.title, ''), nullif(a.name, ''), (
           SELECT string_agg(g.label, ' 50%% ' ORDER BY g.label, g.id) FROM shop.tags g
           WHERE NOT g.hidden AND g.id IN (SELECT tag_id FROM shop.book_tags l WHERE l.book_id = b.id))),
       jsonb_build_object(
           'author', CASE WHEN a.id IS NOT NULL THEN jsonb_build_object('country', a.country) END,
           'publisher', CASE WHEN p.id IS NOT NULL THEN jsonb_build_object('city', p.city) END,
           'groups', jsonb_build_object('id', coalesce(
               (SELECT jsonb_agg(id ORDER BY id) FROM shop.groups s WHERE s.book_id = b.id), '[]')))
FROM shop.books b LEFT JOIN shop.authors a ON a.id = b.author_id LEFT JOIN shop.publishers p ON p.id = a.publisher_id
"""


@pytest.fixture
def books(db: Connection, index: IndexReader, worker: Worker) -> Iterator[Flow]:
    """Attached and indexed."""
    db.execute(TABLES)
    attach(db, BOOKS)
    flow = Flow(db, worker)
    eventually(flow.settles)
    yield flow
    for collection in index.client.get_collections().collections:
        if collection.name.startswith("books"):
            index.client.delete_collection(collection.name)


def indexed(client: QdrantClient) -> dict[str, Any]:
    """The payloads of all points by item, without our facts."""
    points, _ = client.scroll("books", limit=10_000)
    found = {}
    for point in points:
        payload = dict(point.payload or {})
        found[payload.pop("_reindexer")["item_id"]] = payload
    return found


def texts(provider: FakeProvider) -> set[str]:
    return {text for call in provider.calls for text in call.inputs}


def agrees(flow: Flow, index: IndexReader, provider: FakeProvider) -> None:
    """Index and database, through SQL that shares nothing with ours."""
    eventually(flow.settles)
    rows = flow.db.execute(ORACLE.replace("%%", "%")).fetchall()
    assert indexed(index.client) == {item_id: payload for item_id, _, payload in rows}
    assert {text for _, text, _ in rows if text} <= texts(provider)
    fresh = index.client.count("books", exact=True).count
    assert fresh == len(rows)


def mended(db: Connection) -> None:
    """What the listener's watch does."""
    source = find_source(db, "books")
    if not (finding := inspect(db, source)).well:
        mend(db, source, finding)


STATEMENTS = {
    "rename the author": "UPDATE shop.authors SET name = 'Han Kang' WHERE id = 1",
    "a payload of the author": "UPDATE shop.authors SET country = 'JP' WHERE id = 1",
    "another author": "UPDATE shop.books SET author_id = 2 WHERE id = 1",
    "no author": "UPDATE shop.books SET author_id = NULL",
    "delete the author": "DELETE FROM shop.authors WHERE id = 1",
    "a tag more": "INSERT INTO shop.book_tags VALUES (4, 1)",
    "a tag less": "DELETE FROM shop.book_tags WHERE book_id = 1 AND tag_id = 1",
    "a tag moves": "UPDATE shop.book_tags SET book_id = 4 WHERE tag_id = 1",
    "a link to another tag": "UPDATE shop.book_tags SET tag_id = 1 WHERE book_id = 2",
    "a tag is called otherwise": "UPDATE shop.tags SET label = 'azure' WHERE id = 2",
    "a hidden tag is shown": "UPDATE shop.tags SET hidden = false WHERE id = 3",
    "a tag is deleted": "DELETE FROM shop.tags WHERE id = 2",
    "a publisher moves": "UPDATE shop.publishers SET city = 'Jeju' WHERE id = 1",
    "an author's publisher": "UPDATE shop.authors SET publisher_id = 2 WHERE id = 1",
    "keys change": "UPDATE shop.groups SET book_id = book_id + 2",
    "a group is revoked": "DELETE FROM shop.groups WHERE id = 7",
    "truncated": "TRUNCATE shop.groups",
    "all at once": "BEGIN; UPDATE shop.authors SET publisher_id = 1; UPDATE shop.books SET author_id = 3 WHERE id < 3; "
    "DELETE FROM shop.book_tags; INSERT INTO shop.groups VALUES (4, 1); COMMIT",
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS.keys())
@pytest.mark.first(6)
def test_what_a_statement_on_any_table_changes_is_in_the_index(
    books: Flow, index: IndexReader, provider: FakeProvider, statement: str
) -> None:
    agrees(books, index, provider)
    before = indexed(index.client), len(texts(provider))
    for each in statement.split("; "):
        books.db.execute(each)
    agrees(books, index, provider)
    assert (indexed(index.client), len(texts(provider))) != before, "nothing was changed by it"


def test_a_column_that_is_not_read_makes_nothing_due(books: Flow) -> None:
    books.db.execute("UPDATE shop.authors SET notes = 'other', name = name")
    books.db.execute("UPDATE shop.tags SET label = label")
    assert books.db.execute("SELECT count(*) FROM reindexer.outbox").fetchone() == (0,)


def test_a_moved_row_makes_both_parents_due_and_nobody_else(books: Flow) -> None:
    books.db.execute("UPDATE shop.groups SET book_id = 4 WHERE book_id = 2")
    drain(books.db)
    assert fan_out(books.db, lambda name: find_source(books.db, name)) == 2
    drained = books.db.execute("SELECT array_agg(item_id ORDER BY item_id), min(lane) FROM reindexer.outbox").fetchone()
    assert drained == (["2", "4"], "live")


AT_ONCE, PAGE = 50, 100


@pytest.fixture
def small(books: Flow, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """Few items are many, and the author 3 has three pages of them."""
    monkeypatch.setattr("reindexer.backfills.fan_out.AT_ONCE", AT_ONCE)
    monkeypatch.setattr("reindexer.backfills.fan_out.PAGE", PAGE)
    books.db.execute("INSERT INTO shop.books SELECT n, 'book ' || n, 3 FROM generate_series(10, 299) n")
    eventually(books.settles)
    return books


def test_a_value_that_leads_to_many_is_followed_in_pages_as_bulk(
    small: Flow, index: IndexReader, provider: FakeProvider
) -> None:
    asked = len(provider.calls)
    small.db.execute("UPDATE shop.authors SET country = 'FR' WHERE id = 3")
    drain(small.db)
    rounds = 0
    while fan_out(small.db, lambda name: find_source(small.db, name)):
        lanes = small.db.execute("SELECT DISTINCT lane FROM reindexer.outbox").fetchall()
        assert lanes == [("bulk",)]
        drain(small.db)
        rounds += 1
    assert rounds == 3
    eventually(small.settles)
    assert indexed(index.client)["250"]["author"] == {"country": "FR"}
    assert len(provider.calls) == asked, "a payload alone is embedded anew"


def test_a_mark_waits_for_every_page_of_a_related_value(small: Flow) -> None:
    tokens = []
    for _ in range(2):
        with small.db.transaction():
            tokens += [str(token) for (token,) in small.db.execute("SELECT reindexer.mark()").fetchall()]
            small.db.execute("UPDATE shop.authors SET country = country || 'x' WHERE id = 3")
    drain(small.db)
    waiting = dict.fromkeys(tokens, "waiting")
    while fan_out(small.db, lambda name: find_source(small.db, name)):
        assert marks.states(small.db, tokens) == waiting
        drain(small.db)
        assert marks.states(small.db, tokens) == waiting
    assert small.db.execute("SELECT count(*) FROM reindexer.fan_out").fetchone() == (0,)
    assert marks.states(small.db, tokens) == waiting
    eventually(small.settles)
    assert marks.states(small.db, tokens) == dict.fromkeys(tokens, "indexed")


def test_a_mark_of_a_related_row_that_nothing_reads_is_done_with_its_look_up(books: Flow) -> None:
    with books.db.transaction():
        (token,) = books.db.execute("SELECT reindexer.mark()").fetchone() or ("",)
        books.db.execute("UPDATE shop.authors SET name = 'Lee X' WHERE id = 3")
    drain(books.db)
    assert marks.states(books.db, [token]) == {token: "waiting"}
    assert [(each.item_id, each.reason) for each in marks.left(books.db, token)] == [
        (None, "items that read a related table are looked up")
    ]
    fan_out(books.db, lambda name: find_source(books.db, name))
    assert marks.states(books.db, [token]) == {token: "indexed"}


def test_another_change_of_the_value_begins_its_pages_anew(small: Flow) -> None:
    cursor = "SELECT cursor FROM reindexer.fan_out"
    for _ in range(2):
        small.db.execute("UPDATE shop.authors SET country = country || 'x' WHERE id = 3")
        drain(small.db)
        assert small.db.execute(cursor).fetchone() == (None,)
        fan_out(small.db, lambda name: find_source(small.db, name))
        assert small.db.execute(cursor).fetchone() != (None,)


def test_a_locked_related_table_holds_up_its_own_source_alone(
    books: Flow, index: IndexReader, provider: FakeProvider, database: str
) -> None:
    with psycopg.connect(database) as other:
        books.db.execute("UPDATE shop.tags SET label = 'late' WHERE id = 1")
        other.execute("LOCK TABLE shop.book_tags IN ACCESS EXCLUSIVE MODE")
        drain(books.db)
        began = time.monotonic()
        assert fan_out(books.db, lambda name: find_source(books.db, name)) == 0
        assert time.monotonic() - began < 3, "it waits for the lock"
        waits = books.db.execute("SELECT tries, not_before > clock_timestamp() FROM reindexer.fan_out").fetchone()
        assert waits == (1, True)
    agrees(books, index, provider)


def test_a_column_of_another_name_is_the_sources_problem_and_no_row_is_taken_for_deleted(
    books: Flow, index: IndexReader, provider: FakeProvider
) -> None:
    books.db.execute("ALTER TABLE shop.tags RENAME COLUMN label TO called")
    assert "label" in str(inspect(books.db, find_source(books.db, "books")).problem)
    books.db.execute("UPDATE shop.authors SET name = 'Han Kang' WHERE id = 1")
    drain(books.db)
    fan_out(books.db, lambda name: find_source(books.db, name))
    drain(books.db)
    assert len(indexed(index.client)) == 4
    books.db.execute("ALTER TABLE shop.tags RENAME COLUMN called TO label")
    mended(books.db)
    agrees(books, index, provider)


def test_triggers_of_a_relation_that_is_read_no_more_go_and_detach_leaves_none(books: Flow) -> None:
    ours = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND starts_with(tgname, 'reindexer_books')"
    assert books.db.execute(ours).fetchone() == (6 * 5,)
    less = replace(BOOKS, text_columns=("title",), payload_columns=("author.country",), related=(AUTHOR,))
    attach(books.db, less)
    assert books.db.execute(ours).fetchone() == (2 * 5,)
    eventually(books.settles)
    detach(books.db, find_source(books.db, "books"), who="test", lease_s=0)
    assert books.db.execute(ours).fetchone() == (0,)
    functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'reindexer'::regnamespace AND proname LIKE 'books%'"
    assert books.db.execute(functions).fetchone() == (0,)


@pytest.mark.long
def test_pages_wait_while_the_backlog_is_long(
    small: Flow, index: IndexReader, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.fan_out.MAX_BACKLOG", PAGE)
    small.db.execute("UPDATE shop.authors SET country = 'FR' WHERE id = 3")
    drain(small.db)
    assert fan_out(small.db, lambda name: find_source(small.db, name)) == PAGE
    drain(small.db)
    assert fan_out(small.db, lambda name: find_source(small.db, name)) == 0
    eventually(small.settles)
    assert indexed(index.client)["250"]["author"] == {"country": "FR"}


def test_a_column_that_is_gone_fails_no_writer_and_all_is_looked_at(books: Flow) -> None:
    books.db.execute("ALTER TABLE shop.tags DROP COLUMN hidden")
    books.db.execute("UPDATE shop.tags SET label = 'other' WHERE id = 1")
    recorded = books.db.execute("SELECT item_id, related IS NOT NULL FROM reindexer.outbox").fetchall()
    assert recorded == [(None, True)]
    assert drain(books.db).walks == 1


def test_values_that_wait_are_in_flight_for_reconcile_status_and_a_promotion(
    books: Flow, settings: Settings, index: IndexReader
) -> None:
    source = find_source(books.db, "books")
    lifecycle.rebuild(
        books.db,
        replace(source, template="{title}: {author.name}, {tags.label}", made_by=None),
        str(source.made_by),
        who="test",
    )
    eventually(books.settles)
    books.db.execute(
        "INSERT INTO reindexer.fan_out (source, related, value, lane, changed_at, not_before)"
        " VALUES ('books', %s, '1', 'live', now() - interval '10 s', now() + interval '1 h')",
        [source.followed[0].id],
    )
    named = {"source": "books", "item_ids": ["1", "2"], "generation": 1}
    assert [moves for _, moves, *_ in books.db.execute(load("reconcile.sql")["activity"], named)] == [True, True]
    assert status(books.db).outbox == 1
    with pytest.raises(GenerationConflict, match="change"):
        promotion.promote(books.db, "books", who="test", terms=NOW)
    books.db.execute("DELETE FROM reindexer.fan_out")
    promotion.promote(books.db, "books", who="test", terms=NOW)


UNRECORDED: Mapping[str, str] = {
    "disabled triggers": "ALTER TABLE shop.authors DISABLE TRIGGER USER; UPDATE shop.authors SET name = 'unseen'; "
    "ALTER TABLE shop.authors ENABLE TRIGGER USER",
    "another session's replica role": "SET session_replication_role = replica; "
    "UPDATE shop.authors SET name = 'replicated'; RESET session_replication_role",
    "a column of another type": "ALTER TABLE shop.authors ALTER name TYPE varchar(2) USING left(name, 2)",
}


@pytest.mark.parametrize("statements", UNRECORDED.values(), ids=UNRECORDED.keys())
@pytest.mark.first(2)
def test_what_passes_statement_triggers_is_found(
    books: Flow, index: IndexReader, provider: FakeProvider, statements: str
) -> None:
    for each in statements.split("; "):
        books.db.execute(each)
    mended(books.db)
    agrees(books, index, provider)


def test_a_rebuild_follows_the_tables_that_it_reads_and_a_prune_lets_go_of_them(
    books: Flow, index: IndexReader, provider: FakeProvider
) -> None:
    source = find_source(books.db, "books")
    wanted = replace(
        source, text_columns=("title", "editor.name"), payload_columns=(), made_by=None,
        related=(Related("editor", (Link("shop", "editors", ("editor_id",), ("id",)),), key_columns=("id",)),),
    )  # fmt: skip
    books.db.execute(
        "CREATE TABLE shop.editors (id int PRIMARY KEY, name text); ALTER TABLE shop.books ADD COLUMN editor_id int"
    )
    books.db.execute("INSERT INTO shop.editors VALUES (1, 'Choi'); UPDATE shop.books SET editor_id = 1 WHERE id = 1")
    number = lifecycle.rebuild(books.db, wanted, str(source.made_by), who="test").number
    eventually(books.settles)
    books.db.execute("UPDATE shop.editors SET name = 'Choi Y.'")
    agrees(books, index, provider)
    assert "one\nChoi Y." in texts(provider)
    promotion.promote(books.db, "books", who="test", terms=SOON)
    books.db.execute("UPDATE shop.authors SET name = 'Han K.' WHERE id = 1")
    eventually(books.settles)
    assert "one\nHan K.\nblue 50% red" in texts(provider), "the way back reads its own tables"
    lifecycle.prune(books.db, "books", who="test")
    assert number == 2
    assert remove_former(books.db, find_source(books.db, "books"))
    on = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE starts_with(tgname, 'reindexer_books') ORDER BY 1"
    assert books.db.execute(on).fetchall() == [("shop.books",), ("shop.editors",)]


GONE = {
    "its table": "DROP TABLE shop.authors CASCADE",
    "a column that it reads": "ALTER TABLE shop.authors DROP COLUMN name",
    "a column that joins it": "ALTER TABLE shop.books DROP COLUMN author_id",
}


@pytest.mark.parametrize("statement", GONE.values(), ids=GONE.keys())
@pytest.mark.first(1)
def test_a_standby_that_reads_what_is_gone_is_broken_and_the_active_generation_is_not(
    books: Flow, database: str, statement: str
) -> None:
    source = find_source(books.db, "books")
    wanted = replace(source, text_columns=("title", "tags.label"), payload_columns=(), related=(TAGS,), made_by=None)
    lifecycle.rebuild(books.db, wanted, str(source.made_by), who="test")
    eventually(books.settles)
    promotion.promote(books.db, "books", who="test", terms=SOON)
    eventually(books.settles)
    books.db.execute(statement.encode())
    watch = Watch(lambda: connect(database, application_name="watch"), every_s=60)
    with capture_logs() as logs:
        watch.look(books.db)
    assert [each["event"] for each in logs if each["event"] == "triggers_invalid"] == []
    states = books.db.execute("SELECT number, state FROM reindexer.generation WHERE source = 'books' ORDER BY 1")
    assert states.fetchall() == [(1, "broken"), (2, "active")]
    assert inspect(books.db, find_source(books.db, "books")).well
    books.db.execute("UPDATE shop.tags SET label = 'crimson' WHERE id = 1")
    eventually(books.settles)
    told = status(books.db)
    assert (told.failed, told.sources["books"].problem, told.pending) == (0, None, 0)


@pytest.fixture
def shown(books: Flow) -> Flow:
    """Tags count whose state is 'shown', by a function of the user's."""
    books.db.execute(
        "CREATE TYPE shop.state AS ENUM ('shown', 'gone');"
        "CREATE FUNCTION shop.counts(shop.state) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 = ''shown''';"
        "ALTER TABLE shop.tags ADD COLUMN state shop.state NOT NULL DEFAULT 'shown'"
    )
    bare = condition.of_table(replace(TAGS, condition=None, condition_columns=()))
    resolved = condition.resolved(books.db, bare, "shop.counts(state)")
    tags = replace(
        TAGS, condition=resolved.condition, condition_columns=resolved.condition_columns,
        resolved_condition=resolved.resolved_condition, condition_objects=resolved.condition_objects,
    )  # fmt: skip
    attach(books.db, replace(BOOKS, related=(AUTHOR, tags, PUBLISHER, GROUPS)))
    eventually(books.settles)
    return books


def test_a_function_of_a_relations_condition_may_be_renamed(shown: Flow, provider: FakeProvider) -> None:
    shown.db.execute("ALTER FUNCTION shop.counts RENAME TO matters; ALTER FUNCTION shop.matters RENAME TO counts")
    shown.db.execute("ALTER SCHEMA shop RENAME TO market; ALTER SCHEMA market RENAME TO shop")
    source = find_source(shown.db, "books")
    assert follow_renames(shown.db, source) is source
    shown.db.execute("ALTER TYPE shop.state RENAME TO condition")
    mended(shown.db)
    shown.db.execute("UPDATE shop.tags SET state = 'gone' WHERE id = 1")
    eventually(shown.settles)
    assert "one\nHan\nblue" in texts(provider)


def test_a_label_of_a_relations_condition_that_changes_its_meaning_is_looked_at(
    shown: Flow, provider: FakeProvider
) -> None:
    """A worker's plan from before would go on with the old one."""
    shown.db.execute("UPDATE shop.tags SET state = 'gone' WHERE id = 2")
    eventually(shown.settles)
    assert "one\nHan\nred" in texts(provider)
    shown.db.execute(
        "ALTER TYPE shop.state RENAME VALUE 'shown' TO 'x'; ALTER TYPE shop.state RENAME VALUE 'gone' TO 'shown';"
        "ALTER TYPE shop.state RENAME VALUE 'x' TO 'gone'"
    )
    mended(shown.db)
    eventually(shown.settles)
    assert "one\nHan\nblue" in texts(provider)
