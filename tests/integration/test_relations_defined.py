"""Relations as users define them: how the join is found, what is refused in one line, and what is read by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from psycopg import sql

from reindexer.core.errors import DefinitionError, SourceError, UsageError
from reindexer.core.payload import PayloadColumn
from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.sources import condition
from reindexer.sources.definition import check, define, fit
from reindexer.sources.redefinition import redefine
from reindexer.sources.relations import words_of
from reindexer.sources.rows import find_rows
from reindexer.sources_file.document import parse_document
from reindexer.sources_file.fit import definitions
from reindexer.sources_file.read import parse_sources
from tests.support.commands import Done
from tests.support.docs import blocks
from tests.support.processes import ROOT

SHOP = b"""
    CREATE SCHEMA shop;
    CREATE SCHEMA old;
    CREATE TABLE shop.publishers (id int PRIMARY KEY, city text, aliases text[]);
    CREATE TABLE shop.authors (
        id int PRIMARY KEY, name text, country text, publisher_id int REFERENCES shop.publishers, kind regclass,
        doc json, loud text GENERATED ALWAYS AS (upper(name)) STORED);
    CREATE TABLE old.authors (id int PRIMARY KEY, name text);
    CREATE TABLE shop.series (lang text, slug text, title text, PRIMARY KEY (lang, slug));
    CREATE TABLE shop.books (
        id bigint PRIMARY KEY, title text, price int, author_id int REFERENCES shop.authors,
        editor_id int REFERENCES old.authors, sequel_of bigint REFERENCES shop.books, lang text, slug text,
        isbn text UNIQUE, code char(3), FOREIGN KEY (lang, slug) REFERENCES shop.series);
    CREATE TABLE shop.tags (id smallint PRIMARY KEY, label text, hidden boolean NOT NULL DEFAULT false, also text[]);
    CREATE TABLE shop.book_tags (
        book_id bigint REFERENCES shop.books, tag_id smallint REFERENCES shop.tags, PRIMARY KEY (book_id, tag_id));
    CREATE TABLE shop.comments (
        id int PRIMARY KEY, book_id bigint REFERENCES shop.books, body text, at date, writer int REFERENCES shop.authors,
        checker int REFERENCES shop.authors);
    CREATE TABLE shop.covers (book_id bigint PRIMARY KEY REFERENCES shop.books, file text);
    CREATE TABLE shop.loose (isbn text, word text);
    CREATE VIEW shop.famous AS SELECT * FROM shop.authors;
    CREATE INDEX ON shop.books (sequel_of);

    INSERT INTO shop.publishers VALUES (1, 'Seoul', '{a,b}'), (2, 'Daegu', NULL);
    INSERT INTO shop.authors VALUES (1, 'Han', 'KR', 1), (2, 'Bora', 'KR', NULL), (3, 'Ito', 'JP', 2);
    INSERT INTO old.authors VALUES (1, 'Old Han');
    INSERT INTO shop.series VALUES ('ko', 'greek', 'Greek lessons');
    INSERT INTO shop.books VALUES (1, 'Vegetarian', 9, 1, 1, NULL, 'ko', 'greek', 'i1'),
        (2, 'Nobody', NULL, NULL, NULL, 1, NULL, 'greek', 'i2'), (3, 'More', 5, 2, NULL, 1, NULL, NULL, NULL);
    INSERT INTO shop.tags VALUES (1, 'novel', false, '{x,y}'), (2, 'korea', false, '{z}'), (3, 'secret', true, NULL),
        (4, NULL, false, NULL);
    INSERT INTO shop.book_tags VALUES (1, 1), (1, 2), (1, 3), (1, 4), (3, 1);
    INSERT INTO shop.comments VALUES (2, 1, 'good', '2026-02-01', 3, 1), (1, 1, 'long', '2026-02-01', 2, 1),
        (3, 1, 'again', '2026-01-01', 3, 1);
    INSERT INTO shop.covers VALUES (1, 'one.png');
    INSERT INTO shop.loose VALUES ('i1', 'word');
"""
BOOKS = '[sources.books]\ntable = "shop.books"\n'
REL = "[sources.books.related."


@pytest.fixture
def shop(db: Connection) -> Connection:
    db.execute(SHOP)
    return db


def defined(db: Connection, text: str) -> Source:
    """The one source of a sources file, defined and checked."""
    (wanted,) = parse_sources(parse_document("reindexer.toml", text)).sources.values()
    source = define(db, wanted)
    check(db, source)
    return source


def relation(db: Connection, keys: str, of: str = "x.id") -> Related:
    """The relation `x` of the books that these keys define."""
    (found,) = defined(db, f'{BOOKS}text = ["title", "{of}"]\n{REL}x]\n{keys}').related
    return found


def read(db: Connection, source: Source, item_id: str = "1") -> tuple[str, Mapping[str, Any]]:
    row = find_rows(db, source, [item_id]).rows[item_id]
    return row.text, row.payload


WAYS: dict[str, tuple[str, str, bool, list[Link]]] = {
    "the table's foreign key": ("table='shop.authors'", "x.id", False, [Link("shop", "authors", ("author_id",), ("id",))]),
    "a foreign key of two columns": ("table='shop.series'", "x.title", False, [Link("shop", "series", ("lang", "slug"), ("lang", "slug"))]),
    "the other table's": ("table='shop.comments'", "x.body", True, [Link("shop", "comments", ("id",), ("book_id",))]),
    "the other table's, unique": ("table='shop.covers'", "x.file", False, [Link("shop", "covers", ("id",), ("book_id",))]),
    "the other table's, unique, said to be many": ("table='shop.covers'\nmany=true", "x.file", True, [Link("shop", "covers", ("id",), ("book_id",))]),
    "a link table": ("table='shop.tags'\nthrough='shop.book_tags'", "x.label", True,
                     [Link("shop", "book_tags", ("id",), ("book_id",)), Link("shop", "tags", ("tag_id",), ("id",))]),
    "itself, to one": ("table='shop.books'", "x.title", False, [Link("shop", "books", ("sequel_of",), ("id",))]),
    "itself, to many": ("table='shop.books'\nmany=true", "x.title", True, [Link("shop", "books", ("id",), ("sequel_of",))]),
    "said, unique": ("table='old.authors'\non={author_id='id'}", "x.name", False, [Link("old", "authors", ("author_id",), ("id",))]),
    "said, of several": ("table='shop.comments'\non={author_id='writer'}", "x.body", True, [Link("shop", "comments", ("author_id",), ("writer",))]),
    "said, through a link table": ("table='shop.authors'\nthrough='shop.comments'\nto={checker='id'}", "x.name", True,
                                   [Link("shop", "comments", ("id",), ("book_id",)), Link("shop", "authors", ("checker",), ("id",))]),
    "said, through a link table that has one": ("table='shop.tags'\nthrough='shop.covers'\non={id='book_id'}\nto={book_id='id'}", "x.label", False,
                                                [Link("shop", "covers", ("id",), ("book_id",)), Link("shop", "tags", ("book_id",), ("id",))]),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "of", "many", "links"), WAYS.values(), ids=WAYS.keys())
def test_a_relation_is_joined_by(shop: Connection, keys: str, of: str, many: bool, links: list[Link]) -> None:
    found = relation(shop, keys, of)
    assert (found.links, found.many) == (tuple(links), many)


ALL = (
    BOOKS
    + f"""
text = ["title", "author.name", "tags.label"]
payload = ["price", "author.country", "tags.id", "tags.also", "publisher.city", "publisher.aliases", "comments.*"]
template = "{{title}} by {{author.name}}\\nTags: {{tags.label}}"
{REL}publisher]
of = "author"
table = "shop.publishers"
{REL}author]
table = "shop.authors"
{REL}tags]
table = "shop.tags"
through = "shop.book_tags"
order = ["label"]
separator = " | "
where = "NOT hidden"
{REL}comments]
table = "shop.comments"
order = "at"
limit = 2
columns = ["body", "at"]
"""
)


def test_a_row_is_read_with_all_that_is_related_to_it(shop: Connection) -> None:
    books = defined(shop, ALL)
    assert read(shop, books) == (
        "Vegetarian by Han\nTags: korea | novel",
        {
            "price": 9,
            "author": {"country": "KR"},
            "tags": {"id": [2, 1, 4], "also": [["z"], ["x", "y"]]},
            "publisher": {"city": "Seoul", "aliases": ["a", "b"]},
            "comments": [{"body": "again", "at": "2026-01-01"}, {"body": "long", "at": "2026-02-01"}],
        },
    )
    assert read(shop, books, "2") == (
        "Nobody by \nTags:",
        {"price": None, "author": None, "tags": {"id": [], "also": []}, "publisher": None, "comments": []},
    )
    assert read(shop, books, "3")[1]["publisher"] is None
    assert not find_rows(shop, books, ["4"]).rows


def test_the_example_of_the_documents_is_one(shop: Connection) -> None:
    (example,) = (each.text for each in blocks(ROOT / "docs" / "sources.md") if "sources.books.related" in each.text)
    books = defined(shop, example)
    text, payload = read(shop, books)
    assert text == "Vegetarian by Han\nTags: korea, novel"
    assert payload["comments"][0] == {"body": "again", "at": "2026-01-01"}
    assert payload.keys() == {"price", "author", "tags", "publisher", "comments"}


def test_the_kinds_of_related_columns_are_known_with_their_places(shop: Connection) -> None:
    assert payload_columns(shop, defined(shop, ALL)) == (
        PayloadColumn("price", "integer"),
        PayloadColumn("author.country", "keyword", path=("author", "country")),
        PayloadColumn("tags.id", "integer", path=("tags", "id")),
        PayloadColumn("tags.also", "keyword", path=("tags", "also", None)),
        PayloadColumn("publisher.city", "keyword", path=("publisher", "city")),
        PayloadColumn("publisher.aliases", "keyword", path=("publisher", "aliases")),
        PayloadColumn("comments[].body", "keyword", path=("comments", None, "body")),
        PayloadColumn("comments[].at", "datetime", path=("comments", None, "at")),
    )


READ: dict[str, tuple[str, str, str, str]] = {
    "no parent": ("table='shop.books'", "x.title", "1", "Vegetarian"),
    "its parent": ("table='shop.books'", "x.title", "2", "Nobody\nVegetarian"),
    "its children": ("table='shop.books'\nmany=true\norder='title'", "x.title", "1", "Vegetarian\nMore, Nobody"),
    "two columns": ("table='shop.series'", "x.title", "1", "Vegetarian\nGreek lessons"),
    "two columns, one NULL": ("table='shop.series'", "x.title", "2", "Nobody"),
    "another schema": ("table='old.authors'", "x.name", "1", "Vegetarian\nOld Han"),
    "a line each": ("table='shop.comments'\nseparator='\\n'", "x.body", "1", "Vegetarian\nlong\\ngood\\nagain"),
    "a condition on one row": ("table='shop.authors'\nwhere=\"country = 'JP'\"", "x.name", "1", "Vegetarian"),
    "no key, to one": ("table='shop.loose'\non={isbn='isbn'}\nmany=false", "x.word", "1", "Vegetarian\nword"),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "of", "item_id", "text"), READ.values(), ids=READ.keys())
def test_what_is_read(shop: Connection, keys: str, of: str, item_id: str, text: str) -> None:
    if "loose" in keys:
        shop.execute("CREATE UNIQUE INDEX ON shop.loose (isbn)")
    books = defined(shop, f'{BOOKS}text = ["title", "{of}"]\n{REL}x]\n{keys}')
    assert read(shop, books, item_id)[0] == text


def test_a_relation_of_many_is_many(shop: Connection) -> None:
    books = defined(
        shop,
        f"{BOOKS}text = ['title', 'writer.name']\n{REL}notes]\ntable = 'shop.comments'\n"
        f"{REL}writer]\nof = 'notes'\ntable = 'shop.authors'\non = {{ writer = 'id' }}\norder = 'name'",
    )
    assert read(shop, books)[0] == "Vegetarian\nBora, Ito, Ito"


def test_tables_of_one_name_are_told_apart(shop: Connection) -> None:
    books = defined(
        shop,
        f"{BOOKS}text = ['a.name', 'b.name']\n{REL}a]\ntable = 'shop.authors'\n{REL}b]\ntable = 'old.authors'\n",
    )
    assert read(shop, books)[0] == "Han\nOld Han"


@pytest.mark.parametrize("shut", [
    "REVOKE SELECT ON shop.authors FROM worker",
    "REVOKE SELECT ON shop.book_tags FROM worker",
    "ALTER TABLE shop.authors ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE shop.tags ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE shop.publishers RENAME TO houses",
    "ALTER TABLE shop.authors DROP COLUMN country CASCADE",
])  # fmt: skip
def test_rows_whose_related_rows_can_not_be_seen_are_not_deleted(shop: Connection, database: str, shut: str) -> None:
    books, role = defined(shop, ALL), shop.info.dbname
    shop.execute(f"CREATE ROLE {role}".encode())
    shop.execute(f"GRANT USAGE ON SCHEMA shop TO {role}".encode())
    shop.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {role}".encode())
    try:
        with connect(database, application_name="test") as connection:
            connection.execute(f"SET ROLE {role}".encode())
            assert len(find_rows(connection, books, ["1", "2"]).rows) == 2
            shop.execute(shut.replace("worker", role).encode())
            with pytest.raises(SourceError, match="source 'books' can't be read: "):
                find_rows(connection, books, ["1", "2"])
    finally:
        shop.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


T = "text = ['title', 'x.id']\n"
PAY = "payload = 'x.*'\n"
WRONG: dict[str, tuple[str, str]] = {
    "no relation": ("text = ['title', 'author.name']", "3: source 'books': there is no relation 'author' for 'author.name'; write [sources.books.related.author] with its table into the sources file, or say --related author=TABLE"),
    "a relation spelled otherwise": (f"text = ['athor.name', 'author.name']\n{REL}author]\ntable='shop.authors'", "3: source 'books': there is no relation 'athor' for 'athor.name'; is it 'author'?"),
    "no table": (f"{T}{REL}x]\ntable='shop.authrs'", "5: source 'books': relation 'x': there is no table shop.authrs; see the names"),
    "no link table": (f"{T}{REL}x]\ntable='shop.tags'\nthrough='shop.tag'", "6: source 'books': relation 'x': there is no table shop.tag;"),
    "a view": (f"{T}{REL}x]\ntable='shop.famous'", "5: source 'books': relation 'x': shop.famous is a view, and has no changes to follow; name the table behind it"),
    "a table of the server": (f"{T}{REL}x]\ntable='pg_catalog.pg_class'", "5: source 'books': relation 'x': pg_catalog.pg_class is not a table of yours"),
    "a table of ours": (f"{T}{REL}x]\ntable='reindexer.due'", "5: source 'books': relation 'x': reindexer.due is not a table of yours"),
    "no foreign key": (f"{T}{REL}x]\ntable='shop.tags'", "4: source 'books': relation 'x': no foreign key leads from shop.books to shop.tags or back; write on = { x = \"y\" }: column x of shop.books equals y of shop.tags"),
    "two foreign keys": (f"{T}{REL}x]\ntable='shop.authors'\nthrough='shop.comments'", "4: source 'books': relation 'x': 2 foreign keys lead from shop.comments to shop.authors or back; write to = { checker = \"id\" } or to = { writer = \"id\" }"),
    "a near column": (f"{T}{REL}x]\ntable='shop.authors'\non={{autor_id='id'}}", "6: source 'books': relation 'x': shop.books has no column 'autor_id'; is it 'author_id'?"),
    "a far column": (f"{T}{REL}x]\ntable='shop.authors'\non={{author_id='idd'}}", "6: source 'books': relation 'x': shop.authors has no column 'idd'; is it 'id'?"),
    "other types": (f"{T}{REL}x]\ntable='shop.authors'\non={{isbn='id'}}", "6: source 'books': relation 'x': 'isbn' of shop.books is text, 'id' of shop.authors integer, and they can't be compared"),
    "a type that joins nothing": (f"{T}{REL}x]\ntable='shop.loose'\non={{code='isbn'}}", "6: source 'books': relation 'x': column 'code' of shop.books is character; tables are joined by integers, uuid or text"),
    "other collations": (f"{T}{REL}x]\ntable='shop.sorted'\non={{isbn='isbn'}}", "6: source 'books': relation 'x': 'isbn' of shop.books and 'isbn' of shop.sorted have different collations"),
    "to without through": (f"{T}{REL}x]\ntable='shop.authors'\nto={{author_id='id'}}", "6: source 'books': relation 'x': to is the join of a link table; name that as through, or write on"),
    "not one": (f"{T}{REL}x]\ntable='shop.comments'\nmany=false", "6: source 'books': relation 'x': no unique index says that shop.comments has one row at most with the same book_id; make one, or say many = true"),
    "no key": (f"text='x.word'\n{REL}x]\ntable='shop.loose'\non={{isbn='isbn'}}", "4: source 'books': relation 'x': there can be several rows of shop.loose, and it has no primary key"),
    "a text column": (f"text='x.nme'\n{REL}x]\ntable='shop.authors'", "3: source 'books': relation 'x': shop.authors has no column 'nme'; is it 'name'?"),
    "a payload column": (f"text='title'\npayload='x.nme'\n{REL}x]\ntable='shop.authors'", "4: source 'books': relation 'x': shop.authors has no column 'nme'"),
    "an order column": (f"{T}{REL}x]\ntable='shop.comments'\norder='since'", "6: source 'books': relation 'x': shop.comments has no column 'since'; it has id, book_id,"),
    "an order without one": (f"text='x.name'\n{REL}x]\ntable='shop.authors'\norder='doc'", "6: source 'books': relation 'x': its rows can't be ordered: could not identify an ordering operator for type json"),
    "a column of an object": (f"text='title'\n{PAY}{REL}x]\ntable='shop.authors'\ncolumns=['nme']", "7: source 'books': relation 'x': shop.authors has no column 'nme'"),
    "no columns of an object": (f"text='title'\n{PAY}{REL}x]\ntable='shop.authors'", "5: source 'books': relation 'x' needs columns = [...], which x.* stands for"),
    "a name of an object": (f"text='x.kind'\n{REL}x]\ntable='shop.authors'", "3: source 'books': relation 'x': 'kind' of shop.authors is regclass, which reads as the name of another object"),
    "a condition": (f"{T}{REL}x]\ntable='shop.authors'\nwhere='nme = 1'", "6: source 'books': relation 'x': the condition does not work on 'x': column \"nme\" does not exist"),
    "a condition on more than the row": (f"{T}{REL}x]\ntable='shop.comments'\nwhere='at < now()'", "6: source 'books': relation 'x': the condition must depend on nothing but the row"),
    "a cycle": (f"{T}{REL}x]\nof='y'\ntable='shop.authors'\n{REL}y]\nof='x'\ntable='shop.books'", "4: source 'books': relation 'x' leads back to itself: x of y of x"),
    "of nothing": (f"{T}{REL}x]\nof='y'\ntable='shop.authors'", "4: source 'books': relation 'x' is said to be of 'y', and there is no such relation"),
    "not read": (f"text='title'\n{REL}x]\ntable='shop.authors'", "4: source 'books': relation 'x' is not read; name a column of it, like x.name, in text or payload"),
    "a name that hides a column": (f"text='odd.name'\n{REL}odd]\ntable='shop.authors'", "4: source 'books': relation 'odd': shop.books has a column 'odd.name'; give the relation another name"),
    "a name of a payload column": (f"text='price.id'\npayload='price'\n{REL}price]\ntable='shop.authors'", "5: source 'books': relation 'price' has the name of a payload column; give it another"),
    "a foreign table below": (f"text='x.word'\n{REL}x]\ntable='shop.far'\non={{isbn='isbn'}}", "5: source 'books': the foreign table shop.away is below shop.far: no trigger sees its changes"),
}  # fmt: skip
ODD = b"""
    ALTER TABLE shop.books ADD "odd.name" text;
    CREATE TABLE shop.sorted (id int PRIMARY KEY, isbn text COLLATE "C" UNIQUE);
    CREATE TABLE shop.far (isbn text PRIMARY KEY, word text);
    CREATE FOREIGN DATA WRAPPER none; CREATE SERVER files FOREIGN DATA WRAPPER none;
    CREATE FOREIGN TABLE shop.away (isbn text NOT NULL, word text) SERVER files;
    ALTER FOREIGN TABLE shop.away INHERIT shop.far;
"""


@pytest.mark.parametrize(("keys", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_definition_is_one_line_that_says_what_to_do(shop: Connection, keys: str, words: str) -> None:
    shop.execute(ODD)
    with pytest.raises(UsageError) as raised:
        definitions(shop, parse_sources(parse_document("reindexer.toml", BOOKS + keys)))
    told = str(raised.value)
    assert told.startswith(f"reindexer.toml:{words}")
    assert "\n" not in told
    assert len(told) < 400


LARGE = {
    "the table before": ("table='shop.authors'", "x.name", "shop.books", "CREATE INDEX ON \"shop\".\"books\" (\"author_id\")"),
    "the related table": ("table='shop.comments'\non={id='book_id'}", "x.body", "shop.comments", "CREATE INDEX ON \"shop\".\"comments\" (\"book_id\")"),
    "the link table": ("table='shop.tags'\nthrough='shop.book_tags'", "x.label", "shop.book_tags", "CREATE INDEX ON \"shop\".\"book_tags\" (\"tag_id\")"),
    "two columns": ("table='shop.series'", "x.title", "shop.books", "CREATE INDEX ON \"shop\".\"books\" (\"lang\", \"slug\")"),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "of", "large", "make"), LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "counted"])
def test_a_large_table_needs_an_index_over_the_columns_of_a_join(
    shop: Connection, keys: str, of: str, large: str, make: str, analyzed: bool
) -> None:
    fill = {
        "shop.books": "INSERT INTO shop.books (id, title) SELECT i, 'x' FROM generate_series(10, %s) AS i",
        "shop.comments": "INSERT INTO shop.comments (id, body) SELECT i, 'x' FROM generate_series(10, %s) AS i",
        "shop.book_tags": "INSERT INTO shop.book_tags SELECT i, 1 FROM generate_series(10, %s) AS i",
    }[large]
    shop.execute("ALTER TABLE shop.book_tags DROP CONSTRAINT book_tags_book_id_fkey")
    keys += "\non = {id = 'book_id'}" if "through" in keys else ""
    shop.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(*large.split("."))))

    def analyze() -> None:
        if analyzed:
            shop.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*large.split("."))))

    shop.execute(fill.encode().replace(b"%s", b"9000"))
    analyze()
    relation(shop, keys, of)
    shop.execute(fill.encode().replace(b"%s", b"10100").replace(b"series(10,", b"series(9001,"))
    analyze()
    with pytest.raises(DefinitionError) as raised:
        relation(shop, keys, of)
    assert str(raised.value).startswith(f"source 'books': relation 'x': {large} has 10,000 rows or more and no index")
    assert str(raised.value).endswith(f"make it: {make}")
    assert raised.value.key == "related.x"
    shop.execute(make.encode())
    relation(shop, keys, of)


CHANGED = {
    "ALTER TABLE shop.authors RENAME TO writers": "relation 'author': there is no table",
    "ALTER TABLE shop.tags RENAME label TO name": "relation 'tags': shop.tags has no column 'label'",
    "ALTER TABLE shop.book_tags RENAME tag_id TO tag": "relation 'tags': shop.book_tags has no column 'tag_id'",
    "ALTER TABLE shop.publishers ALTER id TYPE text": "relation 'publisher': 'publisher_id' of shop.authors is integer",
    "ALTER TABLE shop.authors DROP CONSTRAINT authors_pkey CASCADE": "relation 'author': no unique index says",
    "ALTER TABLE shop.comments DROP CONSTRAINT comments_pkey": "relation 'comments': there can be several rows",
    "ALTER TABLE shop.tags ALTER hidden DROP DEFAULT, ALTER hidden TYPE text": "the condition of its relation 'tags' does",
    "ALTER TABLE shop.books DROP author_id": "column 'author_id' of shop.books does not exist",
}


@pytest.mark.parametrize(("statement", "words"), CHANGED.items())
def test_a_relation_that_does_not_fit_any_more_is_told(shop: Connection, statement: str, words: str) -> None:
    books = defined(shop, ALL)
    fit(shop, books)
    if "publishers" in statement:
        shop.execute("ALTER TABLE shop.authors DROP CONSTRAINT authors_publisher_id_fkey")
    shop.execute(statement.encode())
    with pytest.raises((DefinitionError, SourceError), match=words):
        fit(shop, books)
        condition.require(shop, books)


def test_a_definition_is_said_again_when_another_part_of_it_is_changed(shop: Connection) -> None:
    before = defined(shop, ALL)
    same = redefine(shop, "books", before, {"chunk_tokens": 100}, [])
    assert same.after.related == before.related
    assert list(same.changes) == ["chunk_tokens"]
    given = {"text": ("author.name",), "payload": (), "template": None, "related": same_author(before, shop)}
    less = redefine(shop, "books", before, given, [])
    assert str(less.changes["related.tags"]) == (
        "shop.tags (tag_id = id) through shop.book_tags (id = book_id), many, order: label, "
        'separator: " | ", where: NOT hidden → not set'
    )
    assert "related.author" not in less.changes
    assert (less.moved.enter, less.moved.leave) == (0, 1), "the book without author has no text any more"


def same_author(source: Source, db: Connection) -> tuple[Any, ...]:
    return tuple(each for each in words_of(db, source) if each.name == "author")


def test_the_command_line_says_the_same(shop: Connection, here: Callable[..., Done], env: Mapping[str, str]) -> None:
    words = ("attach", "books", "--table", "shop.books", "--text", "title,author.name,tags.label", "--dry-run")
    done = here(*words, "--related", "author=shop.authors", "--related", "tags=shop.tags:shop.book_tags", env=env)
    assert done.returncode == 0, done.stderr
    assert "shop.authors (author_id = id)" in done.stdout
    assert "shop.tags (tag_id = id) through shop.book_tags (id = book_id), many" in done.stdout
    done = here(*words, "--related", "author", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--related author: write NAME=TABLE, or NAME=TABLE:LINK_TABLE" in done.stderr
    done = here(*words, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no relation 'author' for 'author.name'" in done.stderr
