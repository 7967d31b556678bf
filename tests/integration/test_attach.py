"""Any table becomes a source by one command, is kept indexed by its triggers, and is as it was after `detach`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping

import psycopg
import pytest
from psycopg import sql

from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.embedded.postgres import wheel_binaries
from reindexer.monitoring import heartbeat
from reindexer.monitoring.status import status
from reindexer.postgres.connect import connect
from reindexer.postgres.queries import load
from reindexer.postgres.trigger_removal import remove
from reindexer.queue.claim import claim_batch
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from tests.support.commands import Done
from tests.support.shop import ATTACH, Shop


def test_a_table_with_rows_is_attached_filled_and_kept_indexed(shop: Shop) -> None:
    assert "attached; a fill is started" in shop.reindexer(*ATTACH)
    shop.settle()
    assert shop.indexed() == {
        "b1": {"price": 199.9, "in_stock": True, "tags": ["sport", "city"], "added": "2026-01-31"},
        "t1": {"price": 450, "in_stock": False, "tags": [], "added": None},
        "x1": {"price": None, "in_stock": None, "tags": None, "added": None},
    }
    assert shop.index.holds("b1", vector_of("Bicycle\ntwo wheels"))
    shop.db.execute("UPDATE shop.products SET description = 'two wheels, one bell' WHERE sku = 'b1'")
    shop.db.execute("DELETE FROM shop.products WHERE sku = 't1'")
    shop.db.execute("INSERT INTO shop.products (sku, name) VALUES ('n1', 'Unicycle')")
    shop.settle()
    assert shop.indexed().keys() == {"b1", "x1", "n1"}
    assert shop.index.holds("b1", vector_of("Bicycle\ntwo wheels, one bell"))
    assert "Unicycle" not in shop.reindexer("sources")
    assert "n1" in shop.reindexer("search", "products", "Unicycle")
    assert status(shop.db).sources["products"].completed == 3


def test_why_knows_a_composite_id_in_any_spelling(shop: Shop) -> None:
    shop.db.execute("CREATE TABLE shop.pages (lang text, no int, body text, PRIMARY KEY (lang, no))")
    shop.db.execute("INSERT INTO shop.pages VALUES ('nl', 7, 'fiets')")
    shop.reindexer("attach", "products", "--table", "shop.pages", "--text", "body")
    shop.settle()
    assert shop.indexed().keys() == {'["nl", "7"]'}
    assert "COMPLETED" in shop.reindexer("why", "products", '["nl",7]')


MANY_TABLES = """
    CREATE SCHEMA "Other Schema";
    CREATE TABLE "Other Schema"."Mixed Case" ("Id" int PRIMARY KEY, "Text" text, "Größe x" int);
    INSERT INTO "Other Schema"."Mixed Case" VALUES (1, 'mixed', 7);
    CREATE TABLE shop.parted (id int, region text, body text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE shop.parted_nl PARTITION OF shop.parted FOR VALUES IN ('nl');
    CREATE TABLE shop.parted_de PARTITION OF shop.parted FOR VALUES IN ('de') PARTITION BY RANGE (id);
    CREATE TABLE shop.parted_de_1 PARTITION OF shop.parted_de FOR VALUES FROM (0) TO (100);
    INSERT INTO shop.parted VALUES (1, 'nl', 'fiets'), (1, 'de', 'rad');
    CREATE TABLE shop.parent (id int PRIMARY KEY, body text);
    CREATE TABLE shop.child (extra text, PRIMARY KEY (id)) INHERITS (shop.parent);
    INSERT INTO shop.parent VALUES (1, 'parent');
    INSERT INTO shop.child VALUES (2, 'child', 'x');
    CREATE TABLE shop.made (id uuid PRIMARY KEY, one text, two text,
        both_ text GENERATED ALWAYS AS (coalesce(one, '') || ' ' || coalesce(two, '')) STORED);
    INSERT INTO shop.made (id, one, two) VALUES ('6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e', 'one', 'two');
"""


@pytest.mark.parametrize(
    ("table", "text", "payload", "edit", "before", "after"),
    [
        (
            '"Other Schema"."Mixed Case"', "Text", "Größe x",
            """UPDATE "Other Schema"."Mixed Case" SET "Text" = 'edited'""", {"1": "mixed"}, {"1": "edited"},
        ),
        (
            "shop.parted", "body", "region", "UPDATE shop.parted_de_1 SET body = 'velo', region = 'de'",
            {'["1", "nl"]': "fiets", '["1", "de"]': "rad"}, {'["1", "nl"]': "fiets", '["1", "de"]': "velo"},
        ),
        (
            "shop.parted", "body", "region", "UPDATE shop.parted SET region = 'nl', id = 2 WHERE region = 'de'",
            {'["1", "nl"]': "fiets", '["1", "de"]': "rad"}, {'["1", "nl"]': "fiets", '["2", "nl"]': "rad"},
        ),
        (
            "shop.parent", "body", "id", "UPDATE shop.child SET body = 'grown'",
            {"1": "parent", "2": "child"}, {"1": "parent", "2": "grown"},
        ),
        (
            "shop.made", "both_", "one", "UPDATE shop.made SET two = 'three'",
            {"6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e": "one two"}, {"6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e": "one three"},
        ),
    ],
    ids=["mixed case", "partition", "between partitions", "inheritance", "generated"],
)  # fmt: skip
def test_tables_of_every_shape_are_attached_by_command_and_kept_indexed(
    shop: Shop, table: str, text: str, payload: str, edit: str, before: dict[str, str], after: dict[str, str]
) -> None:
    shop.db.execute(MANY_TABLES.encode())
    shop.reindexer("attach", "products", "--table", table, "--text", text, "--payload", payload)
    shop.settle()
    assert shop.indexed().keys() == before.keys()
    assert all(shop.index.holds(item_id, vector_of(body)) for item_id, body in before.items())
    shop.db.execute(edit.encode())
    shop.settle()
    assert shop.indexed().keys() == after.keys()
    assert all(shop.index.holds(item_id, vector_of(body)) for item_id, body in after.items())


def test_an_undeclared_column_costs_nothing_and_a_payload_column_no_embedding(
    shop: Shop, provider: FakeProvider
) -> None:
    shop.reindexer(*ATTACH)
    shop.settle()
    before = len(provider.calls)
    shop.db.execute("UPDATE shop.products SET internal_note = 'to be called back'")
    assert shop.db.execute("SELECT count(*) FROM reindexer.outbox").fetchone() == (0,)
    shop.db.execute("UPDATE shop.products SET price = 1 WHERE sku = 'b1'")
    shop.settle()
    assert shop.indexed()["b1"]["price"] == 1
    assert len(provider.calls) == before


def test_a_row_that_leaves_the_condition_leaves_the_index_and_one_that_enters_it_enters(shop: Shop) -> None:
    shop.reindexer(*ATTACH, "--where", "published AND price < 1000")
    assert "published AND price < 1000" in shop.reindexer("sources")
    shop.settle()
    assert shop.indexed().keys() == {"b1", "t1"}
    shop.db.execute("UPDATE shop.products SET published = NOT published")
    shop.settle()
    assert shop.indexed().keys() == set()
    shop.db.execute("UPDATE shop.products SET price = 10")
    shop.settle()
    assert shop.indexed().keys() == {"x1"}
    shop.db.execute("UPDATE shop.products SET published = NULL")
    shop.settle()
    assert shop.indexed().keys() == set(), "NULL is not met"


def test_a_condition_that_fails_on_a_row_fails_that_item_alone(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.products SET price = 0 WHERE sku = 't1'")
    shop.reindexer(*ATTACH, "--where", "1 / price < 1")
    shop.settle()
    assert shop.indexed().keys() == {"b1"}
    assert "DivisionByZero" in shop.reindexer("dead-letters", "list", "--source", "products", "--json")


def test_reconcile_estimate_and_backfill_know_the_condition(shop: Shop) -> None:
    shop.reindexer(*ATTACH, "--where", "published")
    shop.settle()
    assert '"rows": 2' in shop.reindexer("estimate", "products", "--json")
    shop.db.execute("ALTER TABLE shop.products DISABLE TRIGGER USER")
    shop.db.execute("UPDATE shop.products SET published = NOT published WHERE sku <> 'b1'")
    shop.db.execute("ALTER TABLE shop.products ENABLE TRIGGER USER")
    found = shop.run("reconcile", "products", "--repair", "--json").stdout
    assert '"missing": 1' in found
    assert '"orphaned": 1' in found
    shop.settle()
    assert shop.indexed().keys() == {"b1", "x1"}
    shop.run("backfill", "products", "--where", "sku > 'c'", "--force", "--detach")
    shop.settle()
    run = shop.db.execute("SELECT total, queued FROM reindexer.run WHERE kind = 'backfill'").fetchone()
    assert run == (1, 1), "x1 alone: t1 is no item"


def test_a_template_makes_the_text_and_another_one_is_seen_as_due(shop: Shop, provider: FakeProvider) -> None:
    shop.reindexer(*ATTACH, "--template", "{name}:\\n{description}")
    shop.settle()
    assert shop.index.holds("b1", vector_of("Bicycle:\ntwo wheels"))
    assert "changed; a fill is started" in shop.reindexer(*ATTACH, "--template", "{description} ({name})")
    shop.settle()
    assert shop.index.holds("b1", vector_of("two wheels (Bicycle)"))
    before = len(provider.calls)
    assert "up to date" in shop.reindexer(*ATTACH, "--template", "{description} ({name})")
    shop.settle()
    assert len(provider.calls) == before


def test_a_changed_definition_loses_no_write_that_comes_meanwhile(shop: Shop, database: str) -> None:
    """Text and payload columns are exchanged while a session writes with the triggers of before in its plans."""
    shop.reindexer(*ATTACH)
    shop.settle()
    with connect(database, application_name="writer") as writer:
        writer.execute("UPDATE shop.products SET internal_note = 'a' WHERE sku = 'b1'")
        shop.reindexer(
            "attach", "products", "--table", "shop.products", "--text", "internal_note", "--payload", "name", "--yes"
        )
        writer.execute("UPDATE shop.products SET internal_note = 'note ' || sku")
    shop.settle()
    assert shop.indexed() == {"b1": {"name": "Bicycle"}, "t1": {"name": "Tandem"}, "x1": {"name": "Prototype"}}
    assert shop.index.holds("t1", vector_of("note t1"))


def test_a_table_that_took_the_others_name_takes_the_triggers_along(shop: Shop) -> None:
    shop.db.execute("CREATE TABLE shop.goods AS SELECT sku, name FROM shop.products WHERE sku = 'b1'")
    shop.db.execute("ALTER TABLE shop.goods ADD PRIMARY KEY (sku)")
    shop.reindexer(*ATTACH)
    shop.settle()
    shop.db.execute("ALTER TABLE shop.products RENAME TO old; ALTER TABLE shop.goods RENAME TO products")
    shop.reindexer("attach", "products", "--text", "name", "--unset", "payload", "--yes")
    shop.settle()
    assert shop.indexed() == {"b1": {}}
    left = shop.db.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.old'::regclass").fetchone()
    assert left == (0,)


@pytest.mark.parametrize("drop", [True, False], ids=["collection dropped", "collection kept"])
def test_detach_leaves_the_table_as_it_was(shop: Shop, database: str, drop: bool) -> None:
    before = dump(database)
    shop.reindexer(*ATTACH)
    assert dump(database) != before
    shop.settle()
    shop.worker.counters.write()
    refused = shop.reindexer("detach", "products", code=1)
    assert "say --drop-collection or --keep-collection; nothing was changed" in refused
    shop.reindexer("detach", "products", "--drop-collection" if drop else "--keep-collection")
    assert dump(database) == before
    assert shop.index.exists() is not drop
    counted = "SELECT labels FROM reindexer.counter WHERE name = 'reindexer_source_inputs_total'"
    assert shop.db.execute(counted).fetchall() == []
    for table in ("source", "due", "outbox", "ledger", "run"):
        where = "name" if table == "source" else "source"
        query = sql.SQL("SELECT count(*) FROM reindexer.{} WHERE {} = 'products'")
        rows = shop.db.execute(query.format(sql.Identifier(table), sql.Identifier(where))).fetchone()
        assert rows == (0,), table
    shop.db.execute("UPDATE shop.products SET name = 'other'")
    assert shop.db.execute("SELECT count(*) FROM reindexer.outbox").fetchone() == (0,)
    assert "no source 'products'" in shop.reindexer("detach", "products", code=2)
    shop.reindexer(*ATTACH)

    def is_back() -> bool:
        shop.settle()
        return shop.indexed().keys() == {"b1", "t1", "x1"}

    eventually(is_back)  # a worker that still thinks that there is a collection finds out by its first write


def test_detach_waits_for_what_a_worker_has_in_hand(shop: Shop) -> None:
    """Else the worker would write to the collection after everything else is gone."""
    shop.reindexer(*ATTACH)
    walk_page(shop.db, lambda name, _: find_source(shop.db, name))
    assert claim_batch(shop.db, Lane.BULK, 10, 2.0)
    began = time.monotonic()
    shop.reindexer("detach", "products", "--keep-collection")
    assert time.monotonic() - began > 1.5


def test_nobody_mends_the_triggers_of_a_source_that_is_being_detached(shop: Shop) -> None:
    shop.reindexer(*ATTACH)
    source = find_source(shop.db, "products")
    shop.db.execute(load("sources.sql")["start_detaching"], {"name": "products"})
    remove(shop.db, source)  # and here the command was killed
    assert not inspect(shop.db, source).mendable
    shop.reindexer("detach", "products", "--keep-collection")
    assert shop.db.execute("SELECT count(*) FROM reindexer.source WHERE name = 'products'").fetchone() == (0,)


def test_the_sql_is_printed_as_a_psql_could_run_it_and_nothing_is_done(shop: Shop, database: str) -> None:
    before = dump(database)
    printed = shop.reindexer(*ATTACH, "--sql")
    assert dump(database) == before
    assert shop.db.execute("SELECT count(*) FROM reindexer.source WHERE name = 'products'").fetchone() == (0,)
    with psycopg.connect(database) as psql:
        psql.execute(printed.encode())
        found = psql.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.products'::regclass").fetchone()
        assert found == (5,)
        psql.rollback()


def test_migrate_brings_all_sources_to_its_version_and_tells_which_it_could_not(shop: Shop) -> None:
    shop.reindexer(*ATTACH)
    shop.db.execute("DROP FUNCTION reindexer.products_update CASCADE")
    assert "products       attached; a fill is started" in shop.reindexer("migrate")
    shop.db.execute("DROP TABLE shop.products")
    done = shop.run("migrate")
    assert done.returncode == 1
    assert "not all sources can be worked on: products" in done.stderr
    assert "shop.products does not exist" in done.stdout


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no such table": (("--table", "shop.product", "--text", "name"), "there is no table shop.product; see the names"),
    "another schema": (("--table", "products", "--text", "name"), "there is no table products; is it shop.products?"),
    "other letters": (("--table", "shop.orders", "--text", "note"), 'there is no table shop.orders; is it shop."Orders"?'),
    "no name": (("--table", "shop.", "--text", "name"), "'shop.' is no name of a table"),
    "too many parts": (("--table", "a.shop.products", "--text", "name"), "has 3 parts; a table is named schema.table"),
    "a view": (("--table", "shop.cheap", "--text", "name"), "is a view, and has no changes to follow"),
    "a table of ours": (("--table", "reindexer.due", "--text", "lane"), "is not a table of yours"),
    "a typo in a column": (("--table", "shop.products", "--text", "nme"), "has no column 'nme'; is it 'name'?"),
    "no column like it": (("--table", "shop.products", "--text", "zzz"), "has no column 'zzz'; it has sku, name,"),
    "no primary key": (("--table", "shop.log", "--text", "line"), "has no primary key; name columns under a unique"),
    "a key without an index": (("--table", "shop.products", "--key", "name", "--text", "name"), "(name) has no valid unique"),
    "a key of a wrong type": (("--table", "shop.clock", "--text", "line"), "key column 'at' is timestamp with time zone"),
    "names of other objects": (
        ("--table", "shop.about", "--text", "line", "--payload", "tables"),
        "'tables' is regclass, which reads as the name of another object"),
    "a payload named as ours": (("--table", "shop.ours", "--text", "line", "--payload", "_reindexer"), "is reserved"),
    "a column twice": (("--table", "shop.products", "--text", "name,name"), "the text column 'name' is named twice"),
    "a template of other columns": (
        ("--table", "shop.products", "--text", "name", "--template", "{price}"), "'price', which is not one of the text columns"),
    "a condition that is none": (("--table", "shop.products", "--text", "name", "--where", "price >"), "syntax error"),
    "a condition of time": (
        ("--table", "shop.products", "--text", "name", "--where", "added > now()"), "must depend on nothing but the row"),
    "a condition of other rows": (
        ("--table", "shop.products", "--text", "name", "--where", "sku IN (SELECT sku FROM shop.products)"),
        "must depend on nothing but the row"),
    "a condition of nothing": (("--table", "shop.products", "--text", "name", "--where", "true"), "reads no column"),
    "the alias of another": (
        ("--table", "shop.products", "--text", "name", "--alias", "context_items"), "is that of the source 'context_items'"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.first(10)
def test_a_wrong_attach_is_one_line_that_says_what_to_change_and_changes_nothing(
    shop: Shop, database: str, options: tuple[str, ...], words: str
) -> None:
    shop.db.execute(b"""
        CREATE TABLE shop."Orders" (id int PRIMARY KEY, note text);
        CREATE VIEW shop.cheap AS SELECT * FROM shop.products;
        CREATE TABLE shop.log (line text);
        CREATE TABLE shop.clock (at timestamptz PRIMARY KEY, line text);
        CREATE TABLE shop.ours (id int PRIMARY KEY, line text, _reindexer text);
        CREATE TABLE shop.about (id int PRIMARY KEY, line text, tables regclass[])
    """)
    before = dump(database)
    line = shop.reindexer("attach", "products", *options, code=2)
    assert words in line
    assert dump(database) == before


def test_a_source_whose_name_is_taken_by_another_alias_keeps_its_own(shop: Shop) -> None:
    shop.reindexer(*ATTACH)
    line = shop.reindexer(*ATTACH, "--alias", "goods", code=2)
    assert "has the alias 'products', which names its collection and can't be changed" in line


def test_a_role_that_does_not_own_the_table_is_told_so(
    shop: Shop, database: str, here: Callable[..., Done], env: Mapping[str, str]
) -> None:
    shop.db.execute(b"""
        DROP ROLE IF EXISTS rx_guest;
        CREATE ROLE rx_guest LOGIN;
        GRANT USAGE ON SCHEMA shop, reindexer TO rx_guest;
        GRANT SELECT ON ALL TABLES IN SCHEMA shop TO rx_guest;
        GRANT ALL ON ALL TABLES IN SCHEMA reindexer TO rx_guest
    """)
    done = here(*ATTACH, env={**env, "DATABASE_URL": psycopg.conninfo.make_conninfo(database, user="rx_guest")})
    shop.db.execute(b"DROP OWNED BY rx_guest; DROP ROLE rx_guest")
    assert done.returncode == 1
    assert "permission denied" in done.stderr
    assert done.stderr.count("\n") == 1


def dump(url: str) -> str:
    """What pg_dump says of the schema `shop`."""
    done = subprocess.run(
        [str(wheel_binaries() / "pg_dump"), "--schema", "shop", "--dbname", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_what_is_not_searched_as_it_is_written_is_told_beside_the_hits(shop: Shop) -> None:
    shop.reindexer(*ATTACH)
    early = shop.run("search", "products", "bicycle")
    assert (early.returncode, early.stdout) == (0, "")
    assert early.stderr == "reindexer: warning: a fill of 'products' is not through yet: see `reindexer status`\n"
    shop.settle()
    well = shop.run("search", "products", "bicycle", "--limit", "1")
    assert (well.returncode, well.stdout.count("\n"), well.stderr) == (0, 1, "")
    shop.db.execute("ALTER TABLE shop.products RENAME COLUMN description TO words")
    stale = shop.run("search", "products", "bicycle", "--limit", "1")
    assert (stale.returncode, stale.stdout) == (0, well.stdout)
    assert stale.stderr.startswith("reindexer: warning: what was written of late may be missing: source 'products'")
    assert stale.stderr.count("\n") == 1


def test_a_source_is_said_to_be_at_work_only_where_somebody_works_on_it(shop: Shop) -> None:
    def said() -> str:
        lines = shop.reindexer("status").splitlines()
        return next(line.split("\t")[1] for line in lines if line.startswith("source products\t"))

    shop.reindexer(*ATTACH)
    assert said() == "waits for a listener"
    heartbeat.beat(shop.db, "listener", "one@host", leads=True)
    assert said() == "waits for a worker"
    heartbeat.beat(shop.db, "worker", "two@host")
    assert said() == "at work"
    shop.db.execute("ALTER TABLE shop.products RENAME COLUMN description TO words")
    assert said() == "has a problem"
    shop.reindexer("pause", "products")
    assert said() == "paused"


def test_why_rows_can_not_be_counted_is_told_where_it_is_the_old_condition(shop: Shop) -> None:
    shop.db.execute("CREATE TYPE size AS ENUM ('small', 'large')")
    shop.db.execute("ALTER TABLE shop.products ADD COLUMN size size DEFAULT 'small'")
    shop.reindexer(*ATTACH, "--where", "size <> 'large'")
    shop.db.execute("ALTER TYPE size RENAME VALUE 'large' TO 'huge'")
    told = shop.reindexer("attach", "products", "--where", "size <> 'huge'", "--dry-run")
    assert """they can't be counted: invalid input value for enum size: "large\"""" in told
